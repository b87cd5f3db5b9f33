"""Many requests in flight on one connection, without asyncio: replies come in the order of the requests.

Prints::

    [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
"""

import threading

from sealwire import SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway

with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"])
    with ThreadingTCPServer(("127.0.0.1", 0), lambda number: number * number, security) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example")
        with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
            print(list(client.send_requests(range(10), window=4)))  # at most four are unanswered
        server.shutdown()
