from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.errors import ConfigurationError, HandshakeRejected
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.session.terms import client_tls, server_tls
from sealwire.sync.client import SynchronousTCPClient
from sealwire.sync.server import TCPServer
from sealwire.testing import Throwaway
from sealwire.trust.keyring import Keyring
from support.certificates import Handshake


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestDirectory:
    def test_is_gone_at_the_end(self) -> None:
        with Throwaway() as place:
            directory = place.directory
            place.leaf("server", "localhost")
            assert mode(directory) == 0o700
            assert {path.name for path in directory.iterdir()} == {"ca.pem", "keyring.toml", "server.pem", "server.key"}
        assert not directory.exists()

    def test_is_gone_after_an_error(self) -> None:
        with pytest.raises(ZeroDivisionError), Throwaway() as place:
            raise ZeroDivisionError
        assert not place.directory.exists()

    def test_one_that_is_given_stays(self, tmp_path: Path) -> None:
        with Throwaway(tmp_path) as place:
            assert place.directory == tmp_path
        assert (tmp_path / "ca.pem").exists()

    def test_a_second_one_does_not_overwrite(self, tmp_path: Path) -> None:
        Throwaway(tmp_path)
        before = (tmp_path / "ca.pem").read_bytes()
        with pytest.raises(FileExistsError):
            Throwaway(tmp_path)
        assert (tmp_path / "ca.pem").read_bytes() == before

    def test_the_key_of_the_ca_is_in_no_file(self, tmp_path: Path) -> None:
        place = Throwaway(tmp_path)
        place.leaf("server", "localhost")
        secret = place.authority.key_pem.splitlines()[1]
        assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


class TestFiles:
    def test_modes(self, tmp_path: Path) -> None:
        place = Throwaway(tmp_path)
        cert, key = place.leaf("server", "localhost")
        assert [mode(path) for path in (key, place.keyring)] == [0o600, 0o600]
        assert [mode(path) & 0o400 for path in (cert, place.ca)] == [0o400, 0o400]

    def test_leaf(self, tmp_path: Path) -> None:
        cert, key = Throwaway(tmp_path).leaf("server", "localhost", "127.0.0.1", profile="server", days=2)
        assert (cert, key) == (tmp_path / "server.pem", tmp_path / "server.key")
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=1) < left < timedelta(days=2)

    def test_a_leaf_of_the_same_name_replaces(self, tmp_path: Path) -> None:
        place = Throwaway(tmp_path)
        first = place.leaf("server", "localhost")[0].read_bytes()
        assert place.leaf("server", "localhost")[0].read_bytes() != first
        place.security("server", "localhost")

    def test_keyrings_are_fresh(self, tmp_path: Path) -> None:
        place = Throwaway(tmp_path)
        (one,) = Keyring.from_file(place.keyring)
        (two,) = Keyring.from_file(place.new_keyring("other", key_id="k2"))
        assert (one.id, two.id) == ("throwaway", "k2")
        assert len(one.secret) == len(two.secret) == 32
        assert one.secret != two.secret

    def test_two_places_share_nothing(self) -> None:
        with Throwaway() as one, Throwaway() as two:
            assert one.authority.fingerprint != two.authority.fingerprint
            assert one.keyring.read_bytes() != two.keyring.read_bytes()
            server = one.security("server", "localhost", peers=["dns:localhost"])
            client = two.security("client", "localhost")
            assert Handshake(
                server_tls(server, server.credentials.current),
                client_tls(client, client.credentials.current),
                host="localhost",
            ).failures


class TestSecurity:
    def test_options_are_those_of_from_files(self, tmp_path: Path) -> None:
        place = Throwaway(tmp_path)
        other = place.new_keyring("other", key_id="k2")
        made = place.security("server", "localhost", service="x", limits=Limits(max_frame=2048), keyring=other)
        assert isinstance(made, Security)
        assert (made.service, made.limits.max_frame) == ("x", 2048)
        assert made.keys.get("k2")
        with pytest.raises(TypeError):
            place.security("server", "localhost", nothing=1)

    def test_needs_a_name(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="at least one name"):
            Throwaway(tmp_path).security("server")

    def test_as_in_the_docstring(self) -> None:
        with Throwaway() as place:
            server = place.security("server", "localhost", "127.0.0.1", peers=["dns:client.example"])
            client = place.security("client", "client.example")
            other = place.security("other", "other.example")
            with TCPServer(("127.0.0.1", 0), lambda message: {"got": message}, server) as running:
                thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
                thread.start()
                port = running.server_address[1]
                try:
                    with SynchronousTCPClient("127.0.0.1", port, security=client) as ours:
                        assert ours.send_request([1]) == {"got": [1]}
                    theirs = SynchronousTCPClient("127.0.0.1", port, security=other)
                    with theirs, pytest.raises(HandshakeRejected):
                        theirs.send_request([1])
                finally:
                    running.shutdown()
                    thread.join()
