"""A pool of two servers: requests go to the least busy one, and one server can be restarted under load.

Prints::

    before: ['first', 'second', 'first', 'second']
    while the first is stopped: ['second', 'second', 'second', 'second']
    when it is back: True
"""

import threading
from contextlib import contextmanager
from time import monotonic, sleep

from sealwire import ClientPool, ThreadingTCPServer
from sealwire.testing import Throwaway


@contextmanager
def serving(name, port, security):
    with ThreadingTCPServer(("127.0.0.1", port), lambda _: name, security) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


with Throwaway() as place:
    security = place.security("server", "127.0.0.1", peers=["dns:client.example"])
    with serving("second", 0, security) as second:
        with serving("first", 0, security) as first:
            mine = place.security("client", "client.example")
            pool = ClientPool([("127.0.0.1", first), ("127.0.0.1", second)], security=mine)
            print("before:", [pool.send_request(None) for _ in range(4)])
        print("while the first is stopped:", [pool.send_request(None) for _ in range(4)])
        with serving("first", first, security):
            end = monotonic() + 20
            while (is_back := pool.send_request(None) == "first") is False and monotonic() < end:
                sleep(0.05)
            print("when it is back:", is_back)
            pool.close()
