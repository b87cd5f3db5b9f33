"""The files of cert-manager, step-ca, certbot and SPIRE, in the form and rotated in the manner of each."""

from __future__ import annotations

import json
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sealwire import Security, SynchronousTCPClient
from sealwire.cli.connectivity import shown_certificate
from sealwire.cli.options import Address
from sealwire.trust.credentials import Credentials
from support.certificates import Made, make, make_ca
from support.commands import ORDERS, Run, Served
from support.service import eventually


class Layout(ABC):
    """The files of a tool in a directory. The CA is a root with an intermediate below it, as these tools have it."""

    cert: ClassVar[str]
    key: ClassVar[str]
    ca: ClassVar[str]
    names: ClassVar[tuple[str, ...]] = ("localhost",)

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(mode=0o700)
        self.root = make_ca("root")
        self.between = make_ca("between", issuer=self.root)
        self.leaf = self.issue()

    def issue(self) -> Made:
        return make(*self.names, issuer=self.between)

    @abstractmethod
    def rotate(self) -> Iterator[None]:
        """Replace the certificate as the tool does, step by step; ``leaf`` is the new one from the first step on."""

    @property
    def chain(self) -> bytes:
        return self.leaf.pem + self.between.pem

    @property
    def traditional_key(self) -> bytes:
        """As Go's tools write it, in the form of SEC 1 (RFC 5915)."""
        return self.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def write(self, name: str, content: bytes, mode: int = 0o600) -> None:
        """In place."""
        with open(os.open(self.place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)

    def credentials(self) -> Credentials:
        return Credentials.from_files(cert=self.place / self.cert, key=self.place / self.key, ca=self.place / self.ca)


class CertManager(Layout):
    """A secret that the kubelet has mounted: ``..data`` is a link to a directory, and is replaced by renaming."""

    cert, key, ca = "tls.crt", "tls.key", "ca.crt"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        for _ in self.swap("..2026_11_30_10_00_00.1"):
            pass
        for name in (self.cert, self.key, self.ca):
            (place / name).symlink_to(f"..data/{name}")

    def swap(self, name: str) -> Iterator[None]:
        old = os.readlink(self.place / "..data") if (self.place / "..data").is_symlink() else None
        (self.place / name).mkdir()
        yield
        for file, content in ((self.cert, self.chain), (self.key, self.traditional_key), (self.ca, self.root.pem)):
            self.write(f"{name}/{file}", content, 0o400)
            yield
        (self.place / "..data_tmp").symlink_to(name)
        os.rename(self.place / "..data_tmp", self.place / "..data")
        yield
        if old is not None:
            shutil.rmtree(self.place / old)

    def rotate(self) -> Iterator[None]:
        self.leaf = self.issue()
        yield from self.swap("..2026_11_30_11_00_00.2")


class StepCA(Layout):
    """`step ca certificate`, and `step ca rekey --force`, which writes into the files that are there."""

    cert, key, ca = "server.crt", "server.key", "root_ca.crt"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.write(self.cert, self.chain)
        self.write(self.key, self.traditional_key)
        self.write(self.ca, self.root.pem)

    def rotate(self) -> Iterator[None]:
        self.leaf = self.issue()
        for name, content in ((self.cert, self.chain), (self.key, self.traditional_key)):
            self.write(name, b"")
            yield
            self.write(name, content[:300])
            yield
            self.write(name, content)
            yield


class StepCARenewed(StepCA):
    """`step ca renew --daemon`: another certificate for the same key."""

    def rotate(self) -> Iterator[None]:
        self.leaf = make(*self.names, issuer=self.between, key=self.leaf.key)
        self.write(self.cert, self.chain[:500])
        yield
        self.write(self.cert, self.chain)


class Certbot(Layout):
    """``live`` has links into ``archive``, which are removed and made again one by one; the root is elsewhere."""

    cert, key, ca = "live/localhost/fullchain.pem", "live/localhost/privkey.pem", "root.pem"
    kinds = ("cert", "privkey", "chain", "fullchain")

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.number = 1
        for directory in ("archive/localhost", "live/localhost"):
            (place / directory).mkdir(parents=True)
        self.write("root.pem", self.root.pem)
        self.write("live/localhost/README", b"This directory contains your keys and certificates.\n")
        self.archive()
        for kind in self.kinds:
            self.link(kind)

    def issue(self) -> Made:
        key = rsa.generate_private_key(65537, 2048)
        return make(*self.names, issuer=self.between, key=key)

    def archive(self) -> None:
        parts = (self.leaf.pem, self.leaf.key_pem, self.between.pem, self.chain)
        for kind, content in zip(self.kinds, parts, strict=True):
            self.write(f"archive/localhost/{kind}{self.number}.pem", content, 0o600 if kind == "privkey" else 0o644)

    def link(self, kind: str) -> None:
        (self.place / f"live/localhost/{kind}.pem").symlink_to(f"../../archive/localhost/{kind}{self.number}.pem")

    def rotate(self) -> Iterator[None]:
        self.leaf = self.issue()
        self.number += 1
        self.archive()
        yield
        for kind in self.kinds:
            (self.place / f"live/localhost/{kind}.pem").unlink()
            yield
            self.link(kind)
            yield


class Spire(Layout):
    """spiffe-helper's files, written in place: an identity without host name, and a bundle that gets another root."""

    cert, key, ca = "svid.pem", "svid_key.pem", "bundle.pem"
    names = ("spiffe://example.org/server",)

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        for _ in self.write_all(self.root.pem):
            pass

    def write_all(self, bundle: bytes) -> Iterator[None]:
        for name, content in ((self.cert, self.chain), (self.key, self.leaf.key_pem), (self.ca, bundle)):
            self.write(name, content[:200], 0o600 if name == self.key else 0o644)
            yield
            self.write(name, content)
            yield

    def rotate(self) -> Iterator[None]:
        old, self.root = self.root, make_ca("the next root")
        self.between = make_ca("the next between", issuer=self.root)
        self.leaf = self.issue()
        yield from self.write_all(old.pem + self.root.pem)


LAYOUTS = [CertManager, StepCA, StepCARenewed, Certbot, Spire]


@pytest.fixture(params=LAYOUTS, ids=lambda kind: kind.__name__)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    made: Layout = request.param(tmp_path / "files")
    return made


def test_looked_at_after_each_step(layout: Layout) -> None:
    """The pair in service is the old one or the new one, and at the end the new one."""
    following, old = layout.credentials(), layout.leaf.der
    for _ in layout.rotate():
        following.refresh(0.0)
        assert following.leaf in (old, layout.leaf.der)
    assert following.reload()
    assert following.leaf == layout.leaf.der != old


def test_a_rotation_under_a_server(layout: Layout, tmp_path: Path, run: Run) -> None:
    (tmp_path / "orders.py").write_text(ORDERS)
    run("keys", "new", "--days", "30", "--identity", "uri:spiffe://example.org/client")
    client, roots = make("spiffe://example.org/client", issuer=layout.root), layout.root.pem
    for name, content in (("client.pem", client.pem), ("client.key", client.key_pem), ("roots.pem", roots)):
        layout.write(f"../{name}", content)
    config = {"cert": layout.cert, "key": layout.key, "ca": layout.ca}
    text = "".join(f'{name} = "files/{file}"\n' for name, file in config.items())
    more = 'keyring = "certs/keyring.toml"\npeers = ["spiffe://example.org/client"]\n'
    Path("server.toml").write_text(text + more)
    peers = [name for name in layout.names if ":" in name] or None
    security = Security.from_files(
        cert="client.pem", key="client.key", ca="roots.pem", keyring="certs/keyring.toml", peers=peers
    )
    with Served(tmp_path) as served:
        address = Address("localhost", served.port)

        def ask(message: object) -> object:
            with SynchronousTCPClient("localhost", served.port, 20, 20, security=security) as client:
                return client.send_request(message)

        old = shown_certificate(address).fingerprint
        assert ask(1) == {"got": 1}
        for _ in layout.rotate():
            # Clients have a new root before a server shows a certificate of it.
            layout.write("../roots.pem", roots + layout.root.pem)
            assert security.reload()
            assert ask("meanwhile") == {"got": "meanwhile"}
        new = x509.load_pem_x509_certificate(layout.leaf.pem)
        eventually(lambda: shown_certificate(address).serial == new.serial_number, timeout=20)
        assert ask(2) == {"got": 2}
        assert shown_certificate(address).fingerprint != old
        assert run("doctor", "--config", "server.toml").exit_code == 0
        served.signal(signal.SIGTERM)
        assert served.status() == 0
        if isinstance(layout, CertManager):
            assert "rejected" not in served.rest()


def test_the_lists_of_certificates(layout: Layout, run: Run) -> None:
    directory = str((layout.place / layout.cert).parent)
    rows = json.loads(run("certs", "list", "--json", "--dir", directory).stdout)
    leaf = next(row for row in rows if row["file"] == Path(layout.cert).name)
    assert leaf["key"] == "ok"
    assert leaf["state"] == "ok"
    assert Path(layout.key).name not in {row["file"] for row in rows}
    assert "nothing expires soon" in run("certs", "expiring", "--dir", directory).stdout
    run("certs", "expiring", "--within", "30", "--dir", directory, status=1)
