"""Rules by peer and type of message, an audit log, and a function of your own around each request.

Prints::

    clerk: 3 nails are yours
    clerk: fault 70: too many at once
    clerk: fault 17: this client may not send messages of this type
    admin: 200 nails are yours
    admin: closed until Monday
    dns:clerk.example: __main__:Order answered
    dns:clerk.example: __main__:Order refused with fault 70
    dns:clerk.example: __main__:Close refused with fault 17
    dns:admin.example: __main__:Order answered
    dns:admin.example: __main__:Close answered
"""

import logging
import threading
from dataclasses import dataclass

from sealwire import Allowlist, Refuse, RemoteError, Service, SynchronousTCPClient, ThreadingTCPServer
from sealwire.middleware import Rule, audit, authorise
from sealwire.testing import Throwaway


@dataclass
class Order:
    count: int
    item: str


@dataclass
class Close:
    until: str


class Shop(Service):
    def order(self, message: Order) -> str:
        return f"{message.count} {message.item} are yours"

    def close(self, message: Close) -> str:
        return f"closed until {message.until}"


def small_orders(context, message, call_next):
    """Lets nobody but the admin order more than twenty pieces."""
    if isinstance(message, Order) and message.count > 20 and "admin.example" not in context.peer.dns:
        raise Refuse(70, "too many at once")
    return call_next(context, message)


class Lines(logging.Handler):
    """Keeps what the audit log is told, without times and ids."""

    def emit(self, record):
        entry = record.audit
        lines.append(f"{entry['peer'].partition(' ')[0]}: {entry['type']} {entry['outcome']}")


lines = []
log = logging.getLogger("sealwire.audit")
log.addHandler(Lines())
log.setLevel(logging.INFO)
log.propagate = False

anybody, admin = "dns:*.example", "dns:admin.example"
rules = authorise(Rule([Order], [anybody]), Rule([Close], [admin]))

with Throwaway() as place:
    types = Allowlist.from_handler(Shop)
    security = place.security("server", "localhost", peers=[anybody], allow=types)
    with ThreadingTCPServer(("127.0.0.1", 0), Shop, security, middleware=[audit, rules, small_orders]) as server:
        threading.Thread(target=server.serve_forever).start()
        for name, messages in (("clerk", [Order(3, "nails"), Order(200, "nails"), Close("Monday")]),
                               ("admin", [Order(200, "nails"), Close("Monday")])):  # fmt: skip
            mine = place.security(name, f"{name}.example", allow=types)
            with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
                for message in messages:
                    try:
                        print(f"{name}: {client.send_request(message)}")
                    except RemoteError as error:
                        print(f"{name}: fault {error.code}: {error.text}")
        server.shutdown()
print("\n".join(lines))
