"""A Celery app that seals, as its workers load it, by the environment that the tests give."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from sealwire import Allowlist, Codec, Keyring
from sealwire.integrations.celery import install


@dataclass
class Order:
    item: str
    price: Decimal


def made(environment: dict[str, str]) -> Celery:
    app = Celery("shop", broker=environment["BROKER"], backend=environment["BACKEND"], set_as_current=False)
    keys = Keyring.from_file(environment["KEYRING"])
    install(app, keys, codec=Codec(Allowlist(Order)), lifetime=600, name=environment["NAME"])
    app.conf.update(
        broker_connection_retry_on_startup=True,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,
    )
    if environment["BROKER"].startswith("amqp:"):
        refused = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "refused"}
        app.conf.task_queues = [Queue("celery", Exchange("celery"), "celery", queue_arguments=refused)]
    if "LAX" in environment:
        app.conf.accept_content = [environment["NAME"], "json"]
    tasks(app)
    return app


def tasks(app: Celery) -> None:
    @app.task(name="price", shared=False)
    def price(order: Order, times: int = 1) -> Decimal:
        return order.price * times

    @app.task(name="refund", shared=False)
    def refund(order: Order) -> str:
        return f"refunded {order.item}"

    @app.task(name="total", shared=False)
    def total(prices: list[Decimal]) -> Decimal:
        return sum(prices, Decimal(0))

    @app.task(name="flaky", shared=False, bind=True)
    def flaky(self: Any, order: Order, until: int) -> list[Any]:
        if self.request.retries < until:
            raise self.retry(countdown=0.01)
        return [order, self.request.retries, self.request.headers["tenant"]]

    @app.task(name="fail", shared=False)
    def fail(text: str) -> None:
        raise LookupError(text)

    @app.task(name="note", shared=False, bind=True)
    def note(self: Any, *_: Any) -> dict[str, Any]:
        """Return what the task is told about itself."""
        names = ("id", "task", "argsrepr", "kwargsrepr", "eta", "retries", "timelimit", "tenant", "trace", "more")
        return {name: vars(self.request).get(name) for name in names}

    @app.task(name="same", shared=False)
    def same(value: Any) -> Any:
        return value

    @app.task(name="hold", shared=False, acks_late=True)
    def hold(directory: str) -> str:
        """Say that it has begun, and end when it may."""
        place, pause = Path(directory), threading.Event()
        with (place / "begun").open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not (place / "go").exists():
            pause.wait(0.02)
        return "done"


if "BROKER" in os.environ:
    app = made(dict(os.environ))
