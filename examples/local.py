"""A Unix socket: the kernel says which process is at the other end, and both hold the same key.

Prints::

    user and process are mine: True
"""

import os
import threading

from sealwire import RequestHandler, SynchronousUnixClient, ThreadingUnixStreamServer
from sealwire.testing import Throwaway


class Who(RequestHandler):
    def respond(self, _):
        return {"uid": self.peer.uid, "pid": self.peer.pid}


with Throwaway() as place:
    path = place.directory / "orders.sock"
    # There are no certificates: the service has a name, and both ends say whose processes may be at the other one.
    me = [f"uid:{os.getuid()}"]
    security = place.security("server", "orders.example", peers=me, service="orders")
    with ThreadingUnixStreamServer(path, Who, security, mode=0o600) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example", peers=me, service="orders")
        with SynchronousUnixClient(path, security=mine) as client:
            reply = client.send_request(None)
            is_mine = (reply["uid"], reply["pid"]) == (os.getuid(), os.getpid())
            print("user and process are mine:", is_mine)
        server.shutdown()
