"""A process for each connection, which ends with it: a crash that one client causes does not affect the others.

Prints::

    two clients, two processes, none of them the server's: True
"""

import os
import threading

from sealwire import ForkingTCPServer, SynchronousTCPClient
from sealwire.testing import Throwaway


def process_of(_):
    return os.getpid()


with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"])
    with ForkingTCPServer(("127.0.0.1", 0), process_of, security) as server:
        port = server.server_address[1]
        mine = place.security("client", "client.example")

        def ask(found):
            with (
                SynchronousTCPClient("localhost", port, security=mine) as one,
                SynchronousTCPClient("localhost", port, security=mine) as other,
            ):
                found |= {one.send_request(None), other.send_request(None)}
            server.shutdown()

        found = {os.getpid()}
        clients = threading.Thread(target=ask, args=(found,))
        clients.start()
        server.serve_forever()  # in the main thread: a fork copies only the thread that calls it
        clients.join()
        print("two clients, two processes, none of them the server's:", len(found) == 3)
