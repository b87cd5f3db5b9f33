"""A Unix socket: the kernel identifies the process at the other end, and both ends have the same key.

Prints::

    user and process are mine: True
"""

import os
import threading

from sealwire import RequestHandler, Security, SynchronousUnixClient, ThreadingUnixStreamServer
from sealwire.testing import Throwaway


class ClientProcess(RequestHandler):
    def respond(self, _):
        return {"uid": self.peer.uid, "pid": self.peer.pid}


with Throwaway() as place:
    path = place.directory / "orders.sock"
    # There are no certificates: the service has a name, and each end lists the users that may be at the other end.
    security = Security.from_files(keyring=place.keyring, peers=[f"uid:{os.getuid()}"], service="orders")
    with ThreadingUnixStreamServer(path, ClientProcess, security, mode=0o600) as server:
        threading.Thread(target=server.serve_forever).start()
        with SynchronousUnixClient(path, security=security) as client:
            reply = client.send_request(None)
            is_mine = (reply["uid"], reply["pid"]) == (os.getuid(), os.getpid())
            print("user and process are mine:", is_mine)
        server.shutdown()
