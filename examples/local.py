"""A Unix socket: the kernel says which process is at the other end, certificates and keys say who it is.

Prints::

    client.example, user and process are mine: True
"""

import os
import threading

from sealwire import RequestHandler, SynchronousUnixClient, ThreadingUnixStreamServer
from sealwire.testing import Throwaway


class Who(RequestHandler):
    def respond(self, _):
        return {"name": self.peer.dns[0], "uid": self.peer.uid, "pid": self.peer.pid}


with Throwaway() as place:
    path = place.directory / "orders.sock"
    # There is no host name on a Unix socket: the service has a name, and both ends say who may be at the other one.
    security = place.security("server", "orders.example", peers=["dns:client.example"], service="orders")
    with ThreadingUnixStreamServer(path, Who, security, mode=0o600) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example", peers=["dns:orders.example"], service="orders")
        with SynchronousUnixClient(path, security=mine) as client:
            reply = client.send_request(None)
            is_mine = (reply["uid"], reply["pid"]) == (os.getuid(), os.getpid())
            print(f"{reply['name']}, user and process are mine: {is_mine}")
        server.shutdown()
