"""A file that is larger than a message, and than the memory of either end: it goes in parts.

The size is 64 MiB unless the command line says otherwise; 2 GiB take the same memory:

    python examples/large_file.py 2147483648

Prints::

    64 MiB arrived, and are what was sent
    the client needed less than 100 MiB of memory
    the server needed less than 100 MiB of memory
"""

import hashlib
import multiprocessing
import sys
from pathlib import Path

from sealwire import SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway

PART = 256 * 1024


def parts(path):
    """Yield the content of a file in parts."""
    with open(path, "rb") as file:
        while part := file.read(PART):
            yield part


def memory():
    """Return the most memory that this process has had, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def serve(place, pipe):
    def store(message, context):  # its message is an iterator over the parts
        digest = hashlib.sha256()
        with open(place.directory / context.metadata["name"], "xb") as file:
            for part in message:
                digest.update(part)
                file.write(part)
        return {"sha256": digest.hexdigest(), "memory": memory()}

    security = place.security("server", "localhost", peers=["dns:client.example"])
    with ThreadingTCPServer(("127.0.0.1", 0), store, security) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


def verdict(mib):
    return "less than 100 MiB" if mib < 100 else f"{mib} MiB"


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 64 * 2**20
    with Throwaway() as place:
        directory = place.directory
        with open(directory / "backup", "wb") as file:
            file.truncate(size)
        here, there = multiprocessing.Pipe()
        server = multiprocessing.get_context("fork").Process(target=serve, args=(place, there))
        server.start()
        security = place.security("client", "client.example")
        with SynchronousTCPClient("localhost", here.recv(), security=security) as client:
            reply = client.send_parts(parts(directory / "backup"), metadata={"name": "arrived"})
        server.terminate()
        server.join()
        digest = hashlib.sha256()
        for part in parts(directory / "backup"):
            digest.update(part)
        same = reply["sha256"] == digest.hexdigest() and (directory / "arrived").stat().st_size == size
        print(size >> 20, "MiB arrived, and", "are what was sent" if same else "differ")
        print("the client needed", verdict(memory()), "of memory")
        print("the server needed", verdict(reply["memory"]), "of memory")
