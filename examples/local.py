"""A Unix socket: the kernel identifies the process at the other end, and both ends have the same key.

Prints::

    user and process are mine: True
"""

import os
import threading

from sealwire import RequestHandler, SynchronousUnixClient, ThreadingUnixStreamServer
from sealwire.testing import Throwaway


class ClientProcess(RequestHandler):
    def respond(self, _):
        return {"uid": self.peer.uid, "pid": self.peer.pid}


with Throwaway() as place:
    path = place.directory / "orders.sock"
    # There are no certificates: the service has a name, and each end lists the users that may be at the other end.
    me = [f"uid:{os.getuid()}"]
    security = place.security("server", "orders.example", peers=me, service="orders")
    with ThreadingUnixStreamServer(path, ClientProcess, security, mode=0o600) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example", peers=me, service="orders")
        with SynchronousUnixClient(path, security=mine) as client:
            reply = client.send_request(None)
            is_mine = (reply["uid"], reply["pid"]) == (os.getuid(), os.getpid())
            print("user and process are mine:", is_mine)
        server.shutdown()
