"""Strangers that may publish to the subject keep nobody out, and cost a bounded number of sessions."""

from __future__ import annotations

import threading
from typing import Any

from reference.nats import OPEN, RawNATS, message
from sealwire.nats import SynchronousNATSClient
from support.service import Deployment, eventually


def test_sessions_that_say_nothing(worker: Any, url: str, subject: str, deployment: Deployment) -> None:
    """They have all places, and more of them come, each with an inbox that is there: clients get their places soon."""
    security = deployment.security("client", peers=["dns:localhost"])
    stop, most = threading.Event(), 0

    def flood() -> None:
        with RawNATS(url) as nats:
            nats.subscribe("_INBOX.flood.>")
            number = 0
            while not stop.wait(0.01 if number < 30 else 0.25):
                number += 1
                nats.publish(subject, message(OPEN, 0, 1000), f"_INBOX.flood.{number}")
                nats.settle()

    with worker(lambda value: value, limits={"max_handshakes": 10, "handshake_timeout": 60.0}) as one:
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            eventually(lambda: one.server.statistics().handshaking >= 10, timeout=20)
            for number in range(3):
                with SynchronousNATSClient(url, subject, sessions=1, timeout=60, security=security) as client:
                    assert client.send_request(number) == number
                most = max(most, one.server.statistics().handshaking)
        finally:
            stop.set()
            flooding.join(20)
    assert most <= 11
