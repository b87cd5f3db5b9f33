"""Traces across two processes: a client's requests, and what a server does about them.

Needs the extra ``sealwire[otel]`` and `opentelemetry-sdk`. The spans stay in memory; a program of yours has an exporter
in that place. Prints::

    client   __main__:Order       trace 1, of no span
    server   __main__:Order       trace 1, of client __main__:Order
    internal look into the store  trace 1, of server __main__:Order
    client   __main__:Cancel      trace 2, of no span, error 64
    server   __main__:Cancel      trace 2, of client __main__:Cancel
"""

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sealwire import Allowlist, Refuse, RemoteError, Security, Service, SynchronousTCPClient, ThreadingTCPServer
from sealwire.integrations.opentelemetry import Telemetry
from sealwire.testing import Throwaway


@dataclass
class Order:
    item: str


@dataclass
class Cancel:
    number: int


@dataclass
class Report:
    """Asks for the first spans that the server has made."""

    number: int


exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


def spans():
    """Return what is printed of the spans of this process, in the order in which they began."""
    return [
        {
            "kind": span.kind.name.lower(),
            "name": span.name,
            "trace": span.context.trace_id,
            "id": span.context.span_id,
            "parent": span.parent.span_id if span.parent else None,
            "error": span.attributes.get("error.type", ""),
        }
        for span in sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)
    ]


class Stock(Service):
    def order(self, message: Order) -> str:
        with trace.get_tracer("stock").start_as_current_span("look into the store"):
            return f"{message.item} are yours"

    def cancel(self, message: Cancel) -> str:
        raise Refuse(64, f"there is no order {message.number}")

    def report(self, message: Report) -> list:
        return spans()[: message.number]


def serve(directory):
    place = {"cert": "server.pem", "key": "server.key", "ca": "ca.pem", "keyring": "keyring.toml"}
    files = {name: directory / file for name, file in place.items()}
    security = Security.from_files(**files, peers=["dns:client.example"], allow=Allowlist.from_handler(Stock))
    telemetry = Telemetry()
    with ThreadingTCPServer(("127.0.0.1", 0), Stock, security, middleware=[telemetry.server]) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def ask(port, security):
    with SynchronousTCPClient("localhost", port, security=security, middleware=[Telemetry().client]) as client:
        client.send_request(Order("nails"))
        with suppress(RemoteError):
            client.send_request(Cancel(7))
    with SynchronousTCPClient("localhost", port, security=security) as client:
        return spans() + client.send_request(Report(10))


def main():
    with Throwaway() as place:
        place.leaf("server", "localhost")
        security = place.security("client", "client.example", allow=Allowlist.from_handler(Stock))
        command = [sys.executable, __file__, place.directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                found = ask(int(server.stdout.readline()), security)
            finally:
                server.terminate()
    named = {span["id"]: f"{span['kind']} {span['name']}" for span in found}
    for number, first in enumerate(found[:2], 1):
        for span in (span for span in found if span["trace"] == first["trace"]):
            error = f", error {span['error']}" if span["error"] else ""
            parent = named.get(span["parent"], "no span")
            print(f"{span['kind']:8} {span['name']:20} trace {number}, of {parent}{error}")


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(Path(sys.argv[1]))
    else:
        main()
