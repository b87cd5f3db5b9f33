"""Remedies that concern modes and owners of files, forms of files, and what is installed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509 import load_pem_x509_crl

from remedies.advised import quoted
from remedies.place import Place, covers
from sealwire import extras
from sealwire.cli.admin_client import report_findings
from sealwire.errors import ConfigurationError
from sealwire.pki.pem import read_certificates, read_crls, read_private_key
from sealwire.trust.peers import PeerPolicy
from support.certificates import make, make_ca, make_crl

CA = make_ca()
OWN = make("localhost", issuer=CA)


@covers("trust/file_permissions.py", "chmod 600 {}")
@covers("cli/checks.py", "chmod 600 {}", "chmod go-w {}")
def test_modes(place: Place) -> None:
    place.deploy()
    Path("certs").chmod(0o722)
    Path("certs/server.pem").chmod(0o666)
    Path("certs/server.key").chmod(0o644)
    Path("certs/keyring.toml").chmod(0o640)
    told = place.doctor()
    for line in told.splitlines():
        for template in ("chmod 600 {}", "chmod go-w {}"):
            if template[:8] in line:
                place.follow(line, template)
    assert "lets other users" in told
    assert "lets other users" not in place.doctor()
    Path("certs/keyring.toml").chmod(0o644)
    place.follow(place.says("keys", "list", status=1), "chmod 600 {}")
    place.says("keys", "list")


@covers("cli/pem_files.py", "chmod 600 {}")
def test_the_mode_of_a_cas_key(place: Place) -> None:
    place.deploy()
    Path("certs/ca.key").chmod(0o644)
    place.follow(place.says("certs", "renew", "server", status=1), "chmod 600 {}")
    place.says("certs", "renew", "server")


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users take root")
@covers("trust/reading.py", "chown {} {}", "chmod 600 {}", "chmod o+x {}")
def test_files_of_other_users(place: Place) -> None:
    place.deploy()
    for each in [place.directory, *place.directory.parents]:
        if each.stat().st_uid == 0 and each != Path("/") and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    Path("certs").chmod(0o700)
    Path("certs/server.key").chmod(0o640)
    program = f"""
import contextlib, os, sealwire
with contextlib.suppress(sealwire.SealwireError):  # imports all that it needs
    sealwire.Security.from_toml({str(place.directory / "server.toml")!r})
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sealwire.Security.from_toml({str(place.directory / "server.toml")!r})
"""

    def load() -> str:
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    for template in (("chmod o+x {}",), ("chown {} {}", "chmod 600 {}"), ("chown {} {}", "chmod 600 {}")):
        place.follow(load(), *template)
    assert load() == ""


@covers("trust/peers.py", "id -u", "id -g")
def test_numbers_of_users(place: Place) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PeerPolicy(["uid:me"])
    for template, kind in (("id -u", "uid"), ("id -g", "gid")):
        PeerPolicy([f"{kind}:{place.follow(str(caught.value), template).strip()}"])


@covers("cli/checks.py", "sealwire allowlist check --config {}")
def test_what_a_peer_can_do(place: Place) -> None:
    place.deploy()
    place.run("true")
    Path("risky.py").write_text(
        "from dataclasses import dataclass\nfrom typing import Any\n@dataclass\nclass Order:\n    a: Any\n"
    )
    Path("server.toml").write_text(Path("server.toml").read_text() + '[allowlist]\ntypes = ["risky:Order"]\n')
    told = place.run("sealwire doctor --config server.toml")
    assert "risky.Order" in place.follow(told, "sealwire allowlist check --config {}")


@covers("cli/discovery.py", "chmod go-w {}")
def test_a_configuration_that_others_can_change(place: Place) -> None:
    place.deploy()
    place.says("status", "--config", "server.toml")
    Path("server.toml").rename("sealwire.toml")
    Path("sealwire.toml").chmod(0o666)
    place.follow(place.says("status", status=1), "chmod go-w {}")
    place.says("status")


@covers("cli/status.py", "sealwire doctor {} --config {}")
def test_a_server_that_does_not_answer(place: Place) -> None:
    place.deploy()
    told = place.says("status", "--config", "server.toml", "127.0.0.1:1", status=2)
    assert "check that the server runs" in place.follow(told, "sealwire doctor {} --config {}", status=2)


@covers("cli/admin_client.py", "sealwire doctor --config FILE")
def test_a_server_that_reports_a_problem(place: Place) -> None:
    place.deploy()
    report = {"problems": ["the certificate has expired"], "files": {}, "workers": [], "pid": 1}
    (found,) = report_findings("localhost:1", report)
    place.follow(found.remedy, "sealwire doctor --config FILE", FILE="server.toml")


def told_of(read: object, path: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(Path(path).read_bytes(), path)
    return str(caught.value)


@covers("pki/forms.py", "openssl {} -inform der -in {} -out {}")
def test_der(place: Place) -> None:
    crl = load_pem_x509_crl(make_crl(CA)).public_bytes(Encoding.DER)
    key = OWN.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for read, content in ((read_certificates, OWN.der), (read_crls, crl), (read_private_key, key)):
        Path("my file").write_bytes(content)
        place.follow(told_of(read, "my file"), "openssl {} -inform der -in {} -out {}")
        assert read(Path("my file.pem").read_bytes(), "f")
        made = Path("my file.pem").rename("made")
    assert made.stat().st_mode & 0o077 == 0


@covers("pki/forms.py", "openssl pkcs7 -inform der -print_certs -in {} -out {}")
@covers("pki/forms.py", "openssl pkcs7 -print_certs -in {} -out {}", "openssl x509 -in {} -out {}")
def test_other_forms_of_certificates(place: Place) -> None:
    Path("own.pem").write_bytes(OWN.pem)
    place.run("openssl x509 -in own.pem -trustout -addtrust serverAuth -out 'my file'")
    place.follow(told_of(read_certificates, "my file"), "openssl x509 -in {} -out {}")
    assert read_certificates(Path("my file.pem").read_bytes(), "f") == [OWN.certificate]
    for encoding, form in ((Encoding.DER, "-inform der "), (Encoding.PEM, "")):
        Path("my file").write_bytes(pkcs7.serialize_certificates([OWN.certificate], encoding))
        template = f"openssl pkcs7 {form}-print_certs -in {{}} -out {{}}"
        place.follow(told_of(read_certificates, "my file"), template)
        assert read_certificates(Path("my file.pem").read_bytes(), "f") == [OWN.certificate]


@covers("pki/forms.py", "sealwire certs sign {} --as STEM")
def test_a_request(place: Place) -> None:
    place.deploy()
    place.says("certs", "request", "client", "a.example", "--as", "a")
    shutil.copy("certs/a.csr", "certs/a.pem")
    told = told_of(read_certificates, "certs/a.pem")
    place.follow(told, "sealwire certs sign {} --as STEM", STEM="signed")
    assert read_certificates(Path("certs/signed.pem").read_bytes(), "f")


PARTS = [
    f"openssl pkcs12 -in {{}} {which} -out {{}}"
    for which in ("-clcerts -nokeys", "-cacerts -nokeys", "-nocerts -nodes")
]


def write_pkcs12() -> None:
    Path("own.pem").write_bytes(OWN.pem)
    Path("ca.pem").write_bytes(CA.pem)
    Path("own.key").write_bytes(OWN.key_pem)
    command = "openssl pkcs12 -export -in own.pem -inkey own.key -certfile ca.pem -passout pass:secret -out my.p12"
    subprocess.run(command.split(), check=True)


def check_parts(name: str) -> None:
    assert read_certificates(Path(f"{name}.cert.pem").read_bytes(), "f") == [OWN.certificate]
    assert read_certificates(Path(f"{name}.ca.pem").read_bytes(), "f") == [CA.certificate]
    assert read_private_key(Path(f"{name}.key.pem").read_bytes(), "f")
    assert Path(f"{name}.key.pem").stat().st_mode & 0o077 == 0


@covers("pki/forms.py", *PARTS)
def test_pkcs12(place: Place) -> None:
    write_pkcs12()
    shutil.move("my.p12", "my file")
    place.follow(told_of(read_certificates, "my file"), *PARTS, stdin="secret\n")
    check_parts("my file")


@pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool, of a JDK, is not installed")
@covers("pki/forms.py", "keytool -importkeystore -srckeystore {} -destkeystore {} -deststoretype PKCS12", *PARTS)
def test_a_java_keystore(place: Place) -> None:
    write_pkcs12()
    place.run(
        "keytool -importkeystore -srckeystore my.p12 -srcstoretype PKCS12 -srcstorepass secret -destkeystore 'my file'"
        " -deststoretype JKS -deststorepass secret"
    )
    told = told_of(read_certificates, "my file")
    template = "keytool -importkeystore -srckeystore {} -destkeystore {} -deststoretype PKCS12"
    place.follow(told, template, stdin="secret\nsecret\nsecret\n")
    place.follow(told, *PARTS, stdin="secret\n")
    check_parts("my file.p12")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@covers("pki/forms.py", "cp -p {} {}", "ssh-keygen -p -m PKCS8 -N '' -f {}")
def test_a_key_of_openssh(place: Place) -> None:
    Path("my key").write_bytes(OWN.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    Path("my key").chmod(0o600)
    told = told_of(read_private_key, "my key")
    place.follow(told, "cp -p {} {}", "ssh-keygen -p -m PKCS8 -N '' -f {}")
    assert read_private_key(Path("my key.pem").read_bytes(), "f")


@pytest.mark.skipif(None in map(shutil.which, ("puttygen", "ssh-keygen")), reason="puttygen or ssh-keygen is missing")
@covers("pki/forms.py", "puttygen {} -O private-openssh -o {}", "ssh-keygen -p -m PKCS8 -N '' -f {}")
def test_a_key_of_putty(place: Place) -> None:
    Path("own.key").write_bytes(OWN.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    place.run("puttygen own.key -O private -o 'my key'")
    told = told_of(read_private_key, "my key")
    place.follow(told, "puttygen {} -O private-openssh -o {}", "ssh-keygen -p -m PKCS8 -N '' -f {}")
    assert read_private_key(Path("my key.pem").read_bytes(), "f")


@covers("pki/pem.py", "openssl pkey -in {} -out {}")
def test_an_encrypted_key(place: Place) -> None:
    form = Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    Path("my key").write_bytes(OWN.key.private_bytes(*form))
    place.follow(told_of(read_private_key, "my key"), "openssl pkey -in {} -out {}", stdin="secret\n")
    assert read_private_key(Path("my key.pem").read_bytes(), "f")
    assert Path("my key.pem").stat().st_mode & 0o077 == 0


@covers("extras.py", "* {}", "* * {}")
def test_what_is_missing(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds this source and its extra; it installs nothing here. An editable one would take another package."""
    source = next(each for each in Path(extras.__file__).parents if (each / "pyproject.toml").exists())
    info = tmp_path / "elsewhere" / "sealwire-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(distribution("sealwire").read_text("METADATA") or "")
    monkeypatch.syspath_prepend(str(info.parent))
    link = place.directory / "the source"
    link.symlink_to(source)
    url = f"file://{str(link).replace(' ', '%20')}"
    place.environment |= {f"PIP_{name}": "1" for name in ("DRY_RUN", "NO_INDEX", "NO_DEPS")}
    place.environment |= {"PIP_NO_BUILD_ISOLATION": "0", "SEALWIRE_NATIVE": "off"}
    for record in ({}, {"url": url, "dir_info": {}}):
        (info / "direct_url.json").write_text(json.dumps(record))
        place.follow(str(extras.missing("cli", "x")), "* {}", at="the source")
    (info / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))
    (command,) = quoted(extras.installing("cli"))
    *_, option, there = shlex.split(command)
    place.followed.append("* * {}")
    assert option == "--editable"
    assert Path(there.removesuffix("[cli]"), "pyproject.toml").exists()


@covers("cli/project/command.py", "cd {}")
def test_a_new_project(place: Place) -> None:
    told = place.says("new", "my-shop")
    place.follow(told, "cd {}")
    assert Path("my-shop/README.md").exists()
