"""``sealwire demo``: a throwaway deployment, its clients, and the attacks that fail.

command    the command, narrated
attacks    the attacks, each as a process of its own
processes  starts and stops the server and the other processes
"""
