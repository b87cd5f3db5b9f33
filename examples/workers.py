"""Several processes on one port: a process that dies is replaced, and the next request is answered.

Prints::

    the first worker was killed, and another one answers: True
"""

import os
import signal
import threading

from sealwire import PreforkTCPServer, SynchronousTCPClient
from sealwire.testing import Throwaway


def process_of(_):
    return os.getpid()


with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"])
    with PreforkTCPServer(("127.0.0.1", 0), process_of, security, workers=1) as server:
        mine = place.security("client", "client.example")

        def ask(found):
            with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
                found.append(client.send_request(None))
                os.kill(found[0], signal.SIGKILL)
                found.append(client.send_request(None, idempotent=True))
            server.shutdown()

        found = []
        clients = threading.Thread(target=ask, args=(found,))
        server.on_ready = clients.start  # once all workers serve
        server.serve_forever()
        clients.join()
        print("the first worker was killed, and another one answers:", found[0] != found[1])
