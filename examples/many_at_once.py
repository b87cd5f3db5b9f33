"""asyncio: a thousand requests on one connection, answered as they are ready; a coroutine as handler.

Prints::

    1000 replies on one connection, each to its own request
    the slow one was asked first and came last
"""

import asyncio

from sealwire import AsyncTCPClient, AsyncTCPServer
from sealwire.testing import Throwaway


async def main():
    ready = asyncio.Event()

    async def respond(message):
        if message == "slow":
            await ready.wait()
        return message

    with Throwaway() as place:
        security = place.security("server", "localhost", peers=["dns:client.example"])
        mine = place.security("client", "client.example")
        async with (
            AsyncTCPServer(("127.0.0.1", 0), respond, security) as server,
            AsyncTCPClient("localhost", server.server_address[1], security=mine) as client,
        ):
            numbers = range(1000)
            if await asyncio.gather(*map(client.send_request, numbers)) == list(numbers):
                print("1000 replies on one connection, each to its own request")
            order = []

            async def ask(message):
                order.append(await client.send_request(message))
                ready.set()

            await asyncio.gather(ask("slow"), ask("quick"))
            if order == ["quick", "slow"]:
                print("the slow one was asked first and came last")


asyncio.run(main())
