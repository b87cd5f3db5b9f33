"""``sealwire bench``: measures how fast a server answers.

command    options, and what is printed
load       sends the requests
results    what was measured: latencies, errors by kind
plot       draws the results
"""

from sealwire.cli.bench.command import bench

__all__ = ["bench"]
