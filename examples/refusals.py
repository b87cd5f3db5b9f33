"""A handler refuses a request in its own words, and the client catches that as an exception of the same class.

Prints::

    3 nails are yours
    out of stock: 500 nails are too many, there are 20
    fault 65: this shop has no bolts
"""

import threading

from sealwire import Refuse, RemoteError, RequestHandler, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway


class OutOfStock(Refuse):
    code = 64  # of this service's own: 64 to 255


class Shop(RequestHandler):
    def respond(self, message):
        count, item = message
        if item != "nails":
            raise Refuse(65, f"this shop has no {item}")
        if count > 20:
            raise OutOfStock(f"{count} nails are too many, there are 20")
        return f"{count} nails are yours"


with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"])
    with ThreadingTCPServer(("127.0.0.1", 0), Shop, security) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example", faults=[OutOfStock])
        with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
            for wanted in ((3, "nails"), (500, "nails"), (1, "bolts")):
                try:
                    print(client.send_request(wanted))
                except OutOfStock as refusal:
                    print("out of stock:", refusal.text)
                except RemoteError as error:  # of a code that this client has no class for
                    print(f"fault {error.code}: {error.text}")
        server.shutdown()
