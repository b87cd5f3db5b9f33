"""A long job reports its progress, and then returns its result. A client that leaves early stops the job.

Prints::

    10 %
    60 %
    100 %
    the result is 4950
    stopped the second job at 10 %
"""

import threading

from sealwire import RequestHandler, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway

stopped = threading.Event()


class Jobs(RequestHandler):
    def respond(self, message):
        total = 0
        try:
            for number in range(message["up to"]):
                total += number
                if number in (10, 60):
                    yield number  # to the client, as a part of the reply
            yield 100
        except GeneratorExit:
            stopped.set()  # the client does not want the rest: nothing more is computed
            raise
        return total  # the reply itself


with Throwaway() as place:
    security = place.security("server", "localhost", peers=["dns:client.example"])
    with ThreadingTCPServer(("127.0.0.1", 0), Jobs, security) as server:
        threading.Thread(target=server.serve_forever).start()
        mine = place.security("client", "client.example")
        with SynchronousTCPClient("localhost", server.server_address[1], security=mine) as client:
            job = client.stream({"up to": 100})
            for percent in job:
                print(percent, "%")
            print("the result is", job.result)

            with client.stream({"up to": 10**9}) as job:
                percent = next(job)
            stopped.wait(10)
            print("stopped the second job at", percent, "%")
        server.shutdown()
