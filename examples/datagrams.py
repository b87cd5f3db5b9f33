"""UDP over DTLS: one datagram for a request, one for the reply. Needs the extra ``[dtls]``.

Prints::

    {'msg': 'Goods received.', 'from': 'client.example'}
    a payload of 2018 bytes; a datagram holds at most 1132; send it in parts, or over TCP
"""

import threading

from sealwire import PayloadTooLarge, RequestHandler
from sealwire.dtls import SynchronousUDPClient, ThreadingUDPServer
from sealwire.testing import Throwaway


class Goods(RequestHandler):
    def respond(self, _):
        return {"msg": "Goods received.", "from": self.peer.dns[0]}


with Throwaway() as place:
    security = place.security("server", "localhost", "127.0.0.1", peers=["dns:client.example"])
    with ThreadingUDPServer(("127.0.0.1", 0), Goods, security) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example")
        with SynchronousUDPClient("localhost", server.server_address[1], security=mine) as client:
            # An idempotent request is sent again until there is a reply.
            print(client.send_request({"msg": "Goods for you."}, idempotent=True))
            try:
                client.send_request(b"x" * 2000)
            except PayloadTooLarge as error:
                print(error)
        server.shutdown()
