"""The client for each form of address on the command line."""

from __future__ import annotations

import importlib
from typing import Any

from sealwire.cli.addresses import Address, DatagramAddress, ServerAddress, Several, Subject, UnixAddress
from sealwire.cli.options import usage
from sealwire.pool.client import ClientPool
from sealwire.security import Security
from sealwire.sync.client import SynchronousTCPClient, SynchronousUnixClient


def open_client(address: ServerAddress, timeout: float, wait: float, security: Security) -> Any:
    """Return a client of the servers at an address; it connects with its first call. Raises ConfigurationError."""
    times: dict[str, Any] = {"timeout": timeout, "wait": wait, "security": security}
    match address:
        case Address():
            return SynchronousTCPClient(*address, **times)
        case UnixAddress():
            return SynchronousUnixClient(address.path, **times)
        case Several():
            return ClientPool([str(each) for each in address.addresses], size=1, **times)
        case DatagramAddress():  # this and the next need extras
            return importlib.import_module("sealwire.dtls").SynchronousUDPClient(*address, **times)
        case Subject():
            importlib.import_module("sealwire.nats")
            with usage(hint="ADDRESS"):
                importlib.import_module("sealwire.nats.urls").check_subject("subject", address.subject)
            return importlib.import_module("sealwire.nats").SynchronousNATSClient(*address, sessions=1, **times)
