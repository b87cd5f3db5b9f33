"""A server as it runs in a pod of Kubernetes: another user, and files of root's in a volume that the kubelet swaps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwire import Security, SynchronousTCPClient
from sealwire.testing import Throwaway
from support.service import eventually

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another user's group"),
]

GROUP = 2000
CONFIGURATION = """
cert = "tls.crt"
key = "tls.key"
ca = "ca.crt"
keyring = "keyring.toml"
peers = ["dns:client.example"]
reload_config = true
{}

[limits]
reload_interval = 0.05
"""
SERVER = """
import os, sys, threading
from sealwire import Security, SynchronousTCPClient, ThreadingTCPServer

os.setgroups([int(sys.argv[3])])
os.setresgid(65534, 65534, 65534)
if sys.argv[2] != "0":
    # What is loaded when it is first needed is loaded by now: another user may not see where this interpreter is.
    import encodings.idna, concurrent.futures.thread
    os.setresuid(65534, 65534, 65534)
security = Security.from_toml(sys.argv[1])
with ThreadingTCPServer(("127.0.0.1", 0), lambda message: [os.geteuid(), message], security) as server:
    print(server.server_address[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever(0.01)
"""


class Volume:
    """A directory as the kubelet makes it: links to ..data, which is a link to the directory of a moment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "volume"
        self.directory.mkdir()
        self.directory.chmod(0o3777)
        self._moments = 0

    def swap(self, mode: int, files: dict[str, bytes]) -> None:
        self._moments += 1
        moment = self.directory / f"..2026_11_30_{self._moments}"
        moment.mkdir()
        moment.chmod(0o755)
        for name, content in files.items():
            path = moment / name
            path.write_bytes(content)
            os.chown(path, 0, GROUP)
            path.chmod(mode)
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        fresh = self.directory / "..data_tmp"
        fresh.symlink_to(moment.name)
        fresh.rename(self.directory / "..data")
        for old in self.directory.glob("..2026*"):
            if old != moment:
                shutil.rmtree(old)


class Pod:
    def __init__(self, directory: Path) -> None:
        self.place = Throwaway(directory)
        self.client = self.place.leaf("client", "client.example")
        self.volume = Volume(directory)

    def renew(self, *, mode: int = 0o440, option: str = "", key: bytes | None = None) -> None:
        """A new certificate, and the same or another keyring."""
        cert, private = self.place.leaf("server", "localhost")
        keyring = self.place.keyring.read_bytes() if key is None else key
        self.volume.swap(
            mode,
            {
                "tls.crt": cert.read_bytes(),
                "tls.key": private.read_bytes(),
                "ca.crt": self.place.ca.read_bytes(),
                "keyring.toml": keyring,
                "sealwire.toml": CONFIGURATION.format(option).encode(),
            },
        )

    def start(self, *, user: int = 65534, group: int = GROUP) -> subprocess.Popen[str]:
        configuration = self.volume.directory / "sealwire.toml"
        return subprocess.Popen(
            [sys.executable, "-c", SERVER, str(configuration), str(user), str(group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def refusal(self, **options: int) -> str:
        with self.start(**options) as process:
            _, error = process.communicate(timeout=60)
        assert process.returncode == 1
        return error.splitlines()[-1]

    def security(self) -> Security:
        cert, key = self.client
        return Security.from_files(cert=cert, key=key, ca=self.place.ca, keyring=self.place.keyring)


@pytest.fixture
def pod() -> Iterator[Pod]:
    """In a directory that every user can enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Pod(Path(directory))


def answers(pod: Pod, port: int) -> tuple[int, str]:
    """The user who answers, and the certificate that it shows."""
    with SynchronousTCPClient("localhost", port, security=pod.security()) as client:
        user, message = client.send_request("x")
        assert message == "x"
        assert client.peer is not None
        return user, client.peer.fingerprint


@pytest.mark.parametrize(
    ("user", "option"), [(65534, ""), (65534, "keyring_group = true"), (0, "keyring_group = true")]
)
def test_served_and_rotated(pod: Pod, user: int, option: str) -> None:
    """A swap of the whole volume brings a new certificate; no connection is refused meanwhile."""
    pod.renew(option=option)
    with pod.start(user=user) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline() or process.communicate()[1] or 0)
        shown = set()
        for number in range(3):
            user_then, fingerprint = answers(pod, port)
            assert user_then == user
            shown.add(fingerprint)
            if number < 2:
                pod.renew(option=option)
                eventually(lambda last=fingerprint: answers(pod, port)[1] != last, timeout=20)
        assert len(shown) == 3
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o644])
def test_modes_that_are_refused(pod: Pod, mode: int) -> None:
    pod.renew(mode=mode, option="keyring_group = true")
    assert f"mode {mode:04o} lets other users read" in pod.refusal()


def test_a_process_of_roots_must_say_so(pod: Pod) -> None:
    pod.renew()
    assert "set keyring_group" in pod.refusal(user=0)
    pod.renew(option="keyring_group = true")
    assert "chmod 600" in pod.refusal(user=0, group=3000), "which is not a group of this process"


def test_a_group_that_is_missing(pod: Pod) -> None:
    """Without fsGroup the process cannot read the files, and is told what is needed."""
    pod.renew(option="keyring_group = true")
    assert "a group of this process" in pod.refusal(group=3000)
