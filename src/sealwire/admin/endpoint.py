"""The admin endpoint of a server.

====================  ================================================================================================
``/livez``            200 while the process answers at all
``/readyz``           200 while it serves; 503 with the reasons while it starts or drains, or if nobody can be served
``/status``           JSON: what is in service, in this process and in its workers, and its connections and requests
``/metrics``          the same for Prometheus, if the extra ``sealwire[prometheus]`` is installed
====================  ================================================================================================
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import re
import socket
from collections import Counter
from http import HTTPStatus
from typing import Any, Final

from sealwire.admin.http import Answer, HTTPServer, Pages
from sealwire.closing import Closing
from sealwire.errors import ConfigurationError
from sealwire.listeners import SocketFile, address_text, listen, path_text
from sealwire.report import Reporting, process_report

_TCP: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/]+)):([0-9]{1,5})", re.ASCII)
_FORM: Final = "expected 127.0.0.1:9090, [::1]:9090 or unix:/run/sealwire/admin.sock"
_UNIX: Final = "unix:"


class AdminEndpoint(Closing):
    """Answers probes and scrapes about a server, in a thread of its own.

    It is for programs on this machine: it listens on a loopback address or on a Unix socket (mode 0600), knows no
    passwords, and changes nothing. As a context manager it stops at the end::

        with PreforkTCPServer(address, handler, security, workers=4) as server, AdminEndpoint(server, "127.0.0.1:9090"):
            server.serve_forever()

    Args:
        server: The server; of a pre-fork server, its workers are added up.
        address: ``127.0.0.1:PORT``, ``[::1]:PORT`` or ``localhost:PORT`` (port 0 picks a free one), or ``unix:PATH``.

    Raises:
        ConfigurationError: The address is not one of this machine alone.
        TransportError: It cannot be listened on.

    Attributes:
        address: Where it listens, in the same form.
    """

    def __init__(self, server: Reporting, address: str) -> None:
        self._server = server
        if hasattr(server, "collect_reports"):
            server.collect_reports()
        self._file: SocketFile | None = None
        listener = self._listen(address)
        try:
            self._http = HTTPServer(listener, self._pages())
        except BaseException:
            listener.close()
            raise
        self._http.start()

    def _listen(self, address: object) -> socket.socket:
        where = admin_address(address)
        if isinstance(where, str):
            self._file = SocketFile(where, 0o600)
            listener = socket.socket(socket.AF_UNIX)
            try:
                self._file.bind(listener)
            except BaseException:
                listener.close()
                raise
            self.address = _UNIX + path_text(self._file.path)
            return listener
        listener = listen(where)
        self.address = address_text(listener.getsockname())
        return listener

    def _pages(self) -> Pages:
        return {"/livez": _live, "/readyz": self._ready, "/status": self._status, "/metrics": self._metrics_page()}

    def close(self) -> None:
        """Stop answering. Without effect when called again."""
        self._http.close()
        if self._file is not None:
            self._file.remove()

    def report(self) -> dict[str, Any]:
        """Return the content of ``/status``."""
        return report_of(self._server)

    def _ready(self) -> Answer:
        report = self.report()
        reasons = [] if report["state"] == "serving" else [f"the server is {report['state']}"]
        reasons += report["problems"]
        if reasons:
            return Answer("".join(f"{each}\n" for each in reasons).encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Answer(b"ready\n")

    def _status(self) -> Answer:
        return Answer(json.dumps(self.report(), indent=2).encode() + b"\n", "application/json")

    def _metrics_page(self) -> Any:
        try:
            # Now, and not when it is asked for: an import must not be in progress when the server forks.
            prometheus = importlib.import_module("sealwire.integrations.prometheus")
        except ConfigurationError as error:
            text = f"{error}\n".encode()
            return lambda: Answer(text, status=HTTPStatus.NOT_IMPLEMENTED)
        exposition = prometheus.Exposition(self._server.security, self.report)
        return lambda: Answer(exposition(), exposition.kind)


def report_of(server: Any) -> dict[str, Any]:
    """Return the report of a server, with its workers added up."""
    report = process_report(server)
    if hasattr(server, "worker_reports"):
        workers = server.worker_reports()
        peers: Counter[str] = Counter()
        for each in workers:
            peers.update(each["connections"]["by_peer"])
            for name in ("established", "handshaking"):
                report["connections"][name] += each["connections"][name]
        report["connections"]["by_peer"] = dict(peers.most_common())
        found = {problem for each in workers for problem in each["problems"]}
        report["problems"] += sorted(found.difference(report["problems"]))
        report["workers"] = workers
    return report


def _live() -> Answer:
    return Answer(b"alive\n")


def admin_address(address: object) -> str | tuple[str, int]:
    """Return the path of a Unix socket, or host and port of a loopback address. Raises ConfigurationError."""
    if isinstance(address, str) and address.startswith(_UNIX):
        return address.removeprefix(_UNIX)
    match = _TCP.fullmatch(address) if isinstance(address, str) else None
    if match is None or int(match[3]) > 65535:
        raise ConfigurationError(f"the admin endpoint's address: {_FORM}, not {str(address)[:100]!a}")
    host = "127.0.0.1" if match[2] == "localhost" else match[1] or match[2]
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            "the admin endpoint has no passwords and no encryption, so it listens on this machine alone, not on "
            f"{host}: {_FORM}. To reach it from elsewhere, put a proxy in front of it that knows its clients"
        )
    return host, int(match[3])
