"""A subscription is a reply in parts without an end. After a restart of the server the client resumes and misses none.

Prints::

    news 0
    news 1
    (the connection was lost)
    news 2
    news 3
"""

import socket
import threading

from sealwire import ConnectionClosed, RemoteError, RequestHandler, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway

NEWS = [f"news {number}" for number in range(4)]
published = threading.Semaphore(0)


class Newsroom(RequestHandler):
    def respond(self, message):
        for number in range(message["from"], len(NEWS)):
            while not published.acquire(timeout=0.1):
                if self.cancelled.is_set():  # also if the client has gone
                    return
            yield number, NEWS[number]


def serve(port):
    security = place.security("server", "localhost", peers=["dns:client.example"])
    server = ThreadingTCPServer(("127.0.0.1", port), Newsroom, security)
    threading.Thread(target=server.serve_forever).start()
    return server


def subscribe(client):
    """Yield the news, and subscribe again from where it was lost. The client connects with back-off."""
    wanted = 0
    while wanted < len(NEWS):
        try:
            for number, news in client.stream({"from": wanted}, wait=60):
                yield news
                wanted = number + 1
        except (ConnectionClosed, RemoteError):
            print("(the connection was lost)")


with Throwaway() as place:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve(port)
    mine = place.security("client", "client.example")
    with SynchronousTCPClient("localhost", port, security=mine) as client:
        published.release(2)
        for news in subscribe(client):
            print(news)
            if news == "news 1":
                server.shutdown()
                server.server_close()
                server = serve(port)
                published.release(2)
    server.shutdown()
    server.server_close()
