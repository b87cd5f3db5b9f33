"""A handler that runs its connection itself, as with socketserver: ``handle``, ``recv_msg``, ``send_msg``.

Prints::

    the server got {'msg': 'Goods for you.'}
    the client got {'msg': 'Goods received.'}
"""

import threading

from sealwire import RequestHandler, SynchronousTCPClient, ThreadingTCPServer, decode, encode, recv_msg, send_msg
from sealwire.testing import Throwaway


class Goods(RequestHandler):
    def handle(self):
        while (message := recv_msg(self.request)) is not None:  # None: the client closed the connection
            print("the server got", decode(message), flush=True)
            send_msg(self.request, encode({"msg": "Goods received."}))


with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"])
    with ThreadingTCPServer(("127.0.0.1", 0), Goods, security) as server:
        threading.Thread(target=server.serve_forever).start()
        host, port = server.server_address
        with SynchronousTCPClient("localhost", port, security=place.security("client", "client.example")) as client:
            print("the client got", client.send_request({"msg": "Goods for you."}))
        server.shutdown()
