"""Several worker processes that share one listening socket.

supervisor         PreforkTCPServer, the parent: starts, replaces, reloads and stops workers
processes          the parent's table of workers, with restarts and deadlines
worker             the worker's side: messages to and from the parent, and when to ask for replacement
threading_worker   serves with a thread for each connection
asyncio_worker     serves on an event loop
"""
