"""A thread for each connection; the server accepts one dataclass and refuses another.

Prints::

    3 apples for client.example
    refused: the payload has a type that is not on the server's allowlist: __main__:Invoice
"""

import threading
from dataclasses import dataclass

from sealwire import RemoteError, RequestHandler, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway


@dataclass
class Order:
    item: str
    count: int


@dataclass
class Invoice:
    total: int


class Shop(RequestHandler):
    def respond(self, message):  # once for each message; self.peer identifies the client
        return f"{message.count} {message.item} for {self.peer.dns[0]}"


with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"], allow=[Order])
    with ThreadingTCPServer(("127.0.0.1", 0), Shop, security) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example", allow=[Order, Invoice])
        with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
            print(client.send_request(Order("apples", 3)))
            try:
                client.send_request(Invoice(100))
            except RemoteError as error:
                print("refused:", error.text)
        server.shutdown()
