"""Sealwire beside its peers: ``python -m benchmarks``, or ``make bench``.

data        the values that are sent
peers       servers and clients, each peer by its own means
child       a process with one peer's server, or with its clients
loads       what the clients of a process are told to do
processes   starts and ends those processes
suite       the workloads, in interleaved rounds
scaling     throughput against connections; time and memory against message size
report      the table, and docs/explanation/performance.md with its plots

codec, arrays, serving and fairness (with its floods) are benchmarks of their own, each run by its name.
"""
