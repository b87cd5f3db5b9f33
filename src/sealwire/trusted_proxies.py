"""The proxies that a server trusts to send PROXY headers, by their addresses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any, Final

from sealwire.errors import ConfigurationError
from sealwire.wire.proxy_header import ProxyHeader

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class Proxies:
    """The addresses of a server's proxies.

    Args:
        entries: Addresses (``127.0.0.1``) and networks (``10.0.0.0/8``) of IPv4 and IPv6.

    Raises:
        ConfigurationError: An entry is neither.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        if isinstance(entries, str) or not isinstance(entries, Iterable):
            raise ConfigurationError("proxy_protocol must be a list of addresses and networks")
        self._networks = [_network(entry) for entry in entries]

    def header(self, address: Any) -> ProxyHeader:
        """Return the header of a connection from this address: one that must come, or must not."""
        peer = ip_address(address[0].partition("%")[0])
        mapped: IPv4Address | None = getattr(peer, "ipv4_mapped", None)
        return ProxyHeader(expected=any((mapped or peer) in network for network in self._networks))

    def __repr__(self) -> str:
        return f"Proxies({[str(network) for network in self._networks]})"


def _network(entry: str) -> IPv4Network | IPv6Network:
    """Return the network of an entry; the one of IPv4 if it is mapped into IPv6. Raises ConfigurationError."""
    if not isinstance(entry, str) or "%" in entry:
        raise ConfigurationError("proxy_protocol: expected IP addresses and networks, without zones, as strings")
    try:
        network = ip_network(entry)
    except ValueError:
        raise ConfigurationError(
            f"proxy_protocol: {entry[:100]!a} is not an address or network; {_remedy(entry)}"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((network.network_address.packed[-4:], network.prefixlen - _MAPPED.prefixlen))
    return network


def _remedy(entry: str) -> str:
    try:
        return f"write '{ip_interface(entry).network}' for the network"
    except ValueError:
        return "write it like '127.0.0.1', '10.0.0.0/8' or '2001:db8::/32'"
