"""Several worker processes that share one listening socket.

supervisor         PreforkTCPServer, the parent: starts, replaces, reloads and stops workers
processes          the parent's table of workers, with their states, restarts and deadlines
link               the messages between the parent and a worker
worker             the worker's side: its process, and when it asks for replacement
threading_worker   serves with a thread for each connection
asyncio_worker     serves on an event loop
"""
