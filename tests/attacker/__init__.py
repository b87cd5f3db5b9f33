"""An attacker that owns the wire behind TLS, and the promises that hold all the same.

deployment  clients, servers, keys and certificates, the attacker's own among them
endpoint    one side of a connection: what it sent, what was put into it
promises    what must be true of everything that an endpoint delivers
wire        the attacker's means: open, relay, replay, splice, reflect, alter, cut
machine     a Hypothesis state machine that chooses among them
mutants     the protocol without one of its fields, in each of which the machine must find the flaw
__main__    ``make attack``: a million steps, in several processes
"""
