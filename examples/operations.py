"""A service with a method for each type of message; its signatures are the allowlist of both ends.

Prints::

    Receipt(total=Decimal('12.60'))
    there is no order 7
    refused: the service takes no message of this type
"""

import threading
from dataclasses import dataclass
from decimal import Decimal

from sealwire import Allowlist, Refuse, RemoteError, Service, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway


@dataclass
class Item:
    name: str
    price: Decimal


@dataclass
class Order:
    items: list[Item]


@dataclass
class Cancel:
    number: int


@dataclass
class Receipt:
    total: Decimal


class UnknownOrder(Refuse):
    code = 64


class Orders(Service):
    def place(self, message: Order) -> Receipt:
        return Receipt(sum((item.price for item in message.items), Decimal(0)))

    def cancel(self, message: Cancel) -> None:
        raise UnknownOrder(f"there is no order {message.number}")


with Throwaway() as place:
    allow = Allowlist.from_handler(Orders)
    security = place.security("server", "localhost", peers=["dns:client.example"], allow=allow)
    with ThreadingTCPServer(("127.0.0.1", 0), Orders, security) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example", allow=allow, faults=[UnknownOrder])
        with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
            print(client.send_request(Order([Item("nails", Decimal("4.20")), Item("bolts", Decimal("8.40"))])))
            try:
                client.send_request(Cancel(7))
            except UnknownOrder as refusal:
                print(refusal.text)
            try:
                client.send_request(Receipt(Decimal(1)))  # on the list, but no method takes it
            except RemoteError as error:
                print("refused:", error.text)
        server.shutdown()
