"""Clients of several servers: each request goes to the least busy one, past those that fail.

addresses     the addresses that a caller writes, and those that DNS has for them
servers       one server as a pool sees it: its requests in progress, its back-off, its connections
roster        all of them: the choice of one for a request, and the queue of requests that wait for a free one
trip          one call's way past the servers that fail: when it goes on to another, and when it ends
retry_budget  how many requests may be repeated, in proportion to all
base          arguments of both pools
client        the pool for threads; shared_roster has its lock, its waiting calls and their connections,
              and chores what is done beside them
async_client  the pool for asyncio; loop_roster has its waiting tasks and the connections that they share

The rules are in the first five, without sockets, threads and event loops. Connections, the resend rule and the loop
over ``send_requests`` are those of the clients.
"""
