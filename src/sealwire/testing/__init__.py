"""For tests, demonstrations and benchmarks: a throwaway deployment, and a relay that is a bad network.

Two endpoints that trust each other::

    with Throwaway() as place:
        server = place.security("server", "localhost", "127.0.0.1", peers=["dns:client.example"])
        client = place.security("client", "client.example")
        with ThreadingTCPServer(("127.0.0.1", 0), handler, server) as running:
            ...

And the network between them::

    with Relay(running.server_address) as relay:
        relay.to_client = Faults(latency=0.05, cut_after=4000)
        with SynchronousTCPClient("localhost", relay.port, security=client) as one:
            ...
"""

from __future__ import annotations

from sealwire.testing.relay import Faults, Relay
from sealwire.testing.throwaway import Throwaway

__all__ = ["Faults", "Relay", "Throwaway"]
