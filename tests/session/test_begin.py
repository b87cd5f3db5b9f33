"""The beginning of a session at either end, after TLS (docs/protocol.md, sections 1 and 2)."""

from __future__ import annotations

import pytest

from sealwire.errors import HandshakeFailed, PeerNotAllowed
from sealwire.session.begin import begin_client_session, begin_server_session, begin_unix_client_session
from sealwire.trust.contexts import ALPN
from sealwire.trust.identity import PeerIdentity
from support.service import Deployment
from support.session import ADDRESS, Slot
from support.wire import sent


class TestClient:
    @pytest.mark.parametrize(("alpn", "with_leaf"), [(None, True), ("h2", True), (ALPN, False)])
    def test_another_protocol(self, deployment: Deployment, alpn: str | None, with_leaf: bool) -> None:
        security = deployment.security("client")
        leaf = deployment.security("server").credentials.leaf if with_leaf else None
        with pytest.raises(HandshakeFailed, match="did not agree to the protocol sealwire/1"):
            begin_client_session(
                security, security.credentials.current, alpn, leaf, host="localhost", address=ADDRESS, now=0.0
            )

    def test_a_server_that_is_not_on_the_list(self, deployment: Deployment) -> None:
        security = deployment.security("client", peers=["dns:other.example"])
        leaf = deployment.security("server").credentials.leaf
        with pytest.raises(PeerNotAllowed, match="not on this client's list of peers; add one of its names"):
            begin_client_session(
                security, security.credentials.current, ALPN, leaf, host="localhost", address=ADDRESS, now=0.0
            )

    def test_unix(self, deployment: Deployment) -> None:
        """The kernel names both processes, and no host name is sent."""
        own, peer = PeerIdentity.of_process(1000, 1000, 1), PeerIdentity.of_process(2000, 2000, 2)
        for peers, allowed in ((["uid:2000"], True), (["uid:1000"], False)):
            security = deployment.security("client", peers=peers, service="orders")
            arguments = (security, security.credentials.current, peer, own)
            if allowed:
                protocol, session = begin_unix_client_session(*arguments, address="/run/x.sock", now=0.0)
                assert session.peer is peer
                assert b"\x07/orders" in sent(protocol)
            else:
                with pytest.raises(PeerNotAllowed, match="uid:2000"):
                    begin_unix_client_session(*arguments, address="/run/x.sock", now=0.0)


class TestServer:
    @pytest.mark.parametrize("alpn", [None, "h2", "sealwire/2"])
    def test_another_protocol(self, deployment: Deployment, alpn: str | None) -> None:
        security = deployment.security("server", peers=["anonymous"])
        with pytest.raises(HandshakeFailed, match="did not offer the protocol sealwire/1"):
            begin_server_session(
                security, security.credentials.current, alpn, None, None, slot=Slot(), busy=lambda: None, now=0.0
            )
