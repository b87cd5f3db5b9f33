"""Seals Celery's tasks and results, so that no broker need be trusted; needs the extra ``sealwire[celery]``.

::

    app = Celery("shop", broker="amqp://…", backend="redis://…")
    install(app, Keyring.from_file("celery.toml"), codec=Codec(Allowlist(Order)))

**Tasks.** The body that is published is an envelope (:mod:`sealwire.envelope`) for one task name and one id. In it are
the arguments, callbacks, chain and chord, and all headers as they were published: eta, retries, time limits, group and
your own. The worker's consumer opens it before Celery looks at the message, and Celery gets the headers of the envelope
in place of those beside it. It does so there, and not in the task, since Celery acts on headers long before a task
runs: it stores failures of unknown tasks and revocations of late ones under whatever id they name.

**A refused message** is rejected without being requeued, logged, and reported by the signal ``task_rejected``.

**Fail closed.** The serializer itself, which kombu calls with a body and no headers, opens no task. Nor does any other
serializer encode one.

**Results** are sealed by the backend as results, which have their task's id in them; it is compared with the one that
was asked for. Parts of a chord are sealed for its group. Remote control and events are sealed as messages that live for
a minute.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sealwire import extras
from sealwire.codec import Codec
from sealwire.envelope import MAX_LIFETIME, Envelope
from sealwire.errors import ConfigurationError, EnvelopeContextMismatch, EnvelopeMalformed, SealwireError
from sealwire.trust.keyring import Keyring

try:
    from celery import Celery, signals
    from celery.app import amqp, backends, events
    from celery.backends.base import BaseKeyValueStoreBackend, DisabledBackend
    from celery.backends.rpc import RPCBackend
    from celery.canvas import Signature
    from celery.events.receiver import EventReceiver
    from celery.result import ResultBase
    from celery.utils.functional import regen
    from celery.utils.time import maybe_iso8601, maybe_make_aware
    from kombu.messaging import Consumer
    from kombu.serialization import registry
except ImportError:
    raise extras.missing("celery", "sealwire.integrations.celery") from None

__all__ = ["install"]

logger = logging.getLogger("sealwire.celery")

MESSAGE_LIFETIME: Final = 60
"""Seconds for which remote control and events are accepted."""
HIDDEN: Final = "<sealed>"

_REGEN: Final = type(regen(iter(())))
_NAME: Final = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ID: Final = re.compile(r"[0-9a-zA-Z-]{1,64}", re.ASCII)
_MESSAGE: Final = {"kind": "message"}
_RESULT: Final = {"kind": "result"}
_lifetime: ContextVar[float] = ContextVar("lifetime", default=MESSAGE_LIFETIME)
_group: ContextVar[str | None] = ContextVar("group", default=None)


def install(
    app: Celery, keys: Keyring, *, codec: Codec | None = None, lifetime: float = 86_400, name: str = "sealwire"
) -> None:
    """Have an app seal all that it sends and stores, and accept nothing else.

    Call it before the app is used, in every program that has the app: those that send tasks and those that run them. It
    sets the serializers and what is accepted; a later change of those settings is an error when a task is sent and when
    a worker starts.

    Args:
        app: The app.
        keys: The keyring; its file is followed. Keys that are bound to an identity are not used.
        codec: The types of arguments and results; by default ``Codec()``.
        lifetime: Seconds for which a task is accepted after it was sent, or after its eta, and for which a result is,
            if ``result_expires`` is not longer. Keys must last as long: rotate with an ``--overlap`` of at least this.
        name: The serializer's name, the same in all these programs. Another app in one of them needs another name.

    Raises:
        ConfigurationError: The app is in use already, or an argument cannot be used.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError("name must have 1 to 64 lower-case letters, digits and hyphens")
    if type(lifetime) not in (int, float) or not 0 < lifetime <= MAX_LIFETIME:
        raise ConfigurationError(f"lifetime must be a number of seconds above 0, at most {MAX_LIFETIME}")
    if app.finalized or {"amqp", "events", "control"} & set(vars(app)):
        raise ConfigurationError("install must be called before the Celery app is used: right after Celery(…)")
    if name in registry.name_to_type:
        raise ConfigurationError(f"the serializer name {name!r} is taken in this process; choose another `name`")
    seals = _Seals(app, Envelope(keys, purpose=f"celery {name}", codec=codec), name, lifetime)
    registry.register(name, seals.encode, seals.decode, seals.content_type, "binary")
    app.conf.update(seals.settings)
    app.amqp_cls = type("AMQP", (_AMQP,), {"seals": seals})
    app.events_cls = type("Events", (_Events,), {"seals": seals})
    app._get_backend = partial(_sealed_backend, app, seals)  # `backend_cls` cannot be made for an app


class _Seals:
    """Seals and opens for one app."""

    def __init__(self, app: Celery, envelope: Envelope, name: str, lifetime: float) -> None:
        self._app: Final = app
        self._envelope: Final = envelope
        self.name: Final = name
        self.lifetime: Final = lifetime
        self.content_type: Final = f"application/x-{name}"
        self.settings: Final[dict[str, Any]] = {
            "accept_content": [name],
            "result_accept_content": [name],
            "task_serializer": name,
            "result_serializer": name,
            "event_serializer": name,
            "task_protocol": 2,
            "task_compression": None,
            "result_compression": None,
        }

    def check(self) -> None:
        """Raise ConfigurationError if the app would send or accept anything else now."""
        for option, wanted in self.settings.items():
            found = self._app.conf.get(option)
            if found != wanted and (isinstance(found, int | str) or list(found or ()) != wanted):
                raise ConfigurationError(f"{option} must stay {wanted!r}, as install has set it, but is {found!r}")

    def encode(self, value: object) -> bytes:
        """Encode a body for kombu."""
        if isinstance(value, _Body):
            headers = dict(value.headers)
            content = [headers, list(value[0]), dict(value[1]), value[2]]
            lifetime = self.lifetime + _seconds_until(headers.get("eta"), self._app)
            return self.seal(content, _place(headers), lifetime)
        return self.seal(value, _MESSAGE, _lifetime.get())

    def decode(self, data: bytes) -> Any:
        """Decode a body for kombu, but never a task's."""
        return self.open(data, _MESSAGE)

    def seal(self, value: object, context: Mapping[str, str], lifetime: float) -> bytes:
        """Seal a value, with Celery's own classes in it as their JSON has them."""
        return self._envelope.seal(_plain(value), context=context, lifetime=lifetime)

    def open(self, data: object, context: Mapping[str, str]) -> Any:
        """Open an envelope. Raises SealwireError."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise EnvelopeMalformed("not an envelope, but text")
        return self._envelope.open(data, context=context)

    def open_task(self, message: Any) -> None:
        """Open a message of a task in place: its headers are those of the envelope then, its body the arguments."""
        if message.content_type != self.content_type:
            raise EnvelopeMalformed(f"not of the content type {self.content_type}")
        headers, args, kwargs, embed = self.open(message.body, _place(message.headers))
        message.headers = headers
        message.body = _Opened((args, kwargs, embed))
        message.content_type, message.content_encoding = None, "binary"  # so kombu takes it as it is

    def refuse(self, message: Any, error: SealwireError, sender: Any) -> None:
        """Reject a message for good, and say so. The log has only the task's name, if there is such a task."""
        name, task_id = (message.headers.get(each) for each in ("task", "id"))
        known = f" for {name}" if isinstance(name, str) and name in self._app.tasks else ""
        known += f"[{task_id}]" if known and isinstance(task_id, str) and _ID.fullmatch(task_id) else ""
        logger.error("refused a message%s: %s: %s", known, type(error).__name__, error)
        message.reject_log_error(logger, sender.connection.connection_errors)
        signals.task_rejected.send(sender=sender, message=message, exc=error)


class _Body(Sequence[Any]):
    """The body of a task that is about to be published, with its headers, which hooks may still change."""

    def __init__(self, headers: Mapping[str, Any], body: tuple[Any, Any, Any]) -> None:
        self.headers = headers
        self._body = body

    def __getitem__(self, index: Any) -> Any:
        return self._body[index]

    def __len__(self) -> int:
        return len(self._body)

    def __repr__(self) -> str:
        return HIDDEN

    def __json__(self) -> NoReturn:
        raise ConfigurationError("a task of this app must be sealed: remove the `serializer` of the task or the call")

    def __reduce__(self) -> NoReturn:
        self.__json__()


class _Opened(tuple[Any, ...]):
    """The body of a task that was opened; Celery logs the bodies of tasks that it does not know."""

    __slots__ = ()

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> Any:
        return tuple, (list(self),)


class _TaskConsumer(Consumer):
    """Opens each message before Celery's worker sees it."""

    seals: _Seals
    _handle: Callable[[Any], Any] | None = None

    @property
    def on_message(self) -> Callable[[Any], Any] | None:
        """The callback for a message; the worker sets the one to be called with what was opened."""
        return None if self._handle is None else self._receive

    @on_message.setter
    def on_message(self, handle: Callable[[Any], Any] | None) -> None:
        self._handle = handle

    def _receive(self, message: Any) -> Any:
        try:
            self.seals.open_task(message)
        except SealwireError as error:
            return self.seals.refuse(message, error, self)
        return self._handle(message) if self._handle is not None else None


class _AMQP(amqp.AMQP):
    """Publishes sealed tasks, and consumes nothing else."""

    seals: _Seals

    def as_task_v1(self, *_: Any, **__: Any) -> NoReturn:
        self.seals.check()
        raise ConfigurationError("task_protocol must be 2")

    def as_task_v2(self, *args: Any, **options: Any) -> Any:
        self.seals.check()
        message = super().as_task_v2(*args, **options | {"argsrepr": HIDDEN, "kwargsrepr": HIDDEN})
        return message._replace(body=_Body(message.headers, message.body))

    def Consumer(self, *args: Any, **options: Any) -> Any:
        """Return a consumer of tasks, for ``TaskConsumer``, which a worker calls when it starts."""
        self.seals.check()
        return type("TaskConsumer", (_TaskConsumer,), {"seals": self.seals})(*args, **options)


class _Events(events.Events):
    """Receives sealed events only, for monitors and for workers that gossip; Celery's receiver takes JSON as well."""

    seals: _Seals

    @property
    def receiver_cls(self) -> type:
        accept = {self.seals.name}

        class Receiver(EventReceiver):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options | {"accept": accept})

        return Receiver


if TYPE_CHECKING:
    from celery.backends.base import Backend as _Backend
else:
    _Backend = object  # of any class, which _sealed_backend takes after this mix-in


class _SealedBackend(_Backend):
    """A backend of results that are sealed. In front of Celery's own class."""

    seals: _Seals
    expires: Any

    @property
    def _result_lifetime(self) -> float:
        return max(self.seals.lifetime, self.expires or 0)

    def encode(self, data: Any) -> bytes:
        group = _group.get()
        # Of what a backend stores, only the part of a chord is a list.
        context = _chord(group) if group is not None and isinstance(data, list) else _RESULT
        return self.seals.seal(data, context, self._result_lifetime)

    def decode(self, payload: Any) -> Any:
        return None if payload is None else self.seals.open(payload, _RESULT)

    def store_result(self, task_id: str, *args: Any, **options: Any) -> Any:
        with _set(_lifetime, self._result_lifetime):
            return super().store_result(task_id, *args, **options)

    def get_task_meta(self, task_id: str, *args: Any, **options: Any) -> Any:
        return _own(task_id, super().get_task_meta(task_id, *args, **options))

    def _mget_to_results(self, *args: Any, **options: Any) -> Any:
        found = super()._mget_to_results(*args, **options)
        return {task_id: _own(task_id, meta) for task_id, meta in found.items()}

    def restore_group(self, group_id: str, *args: Any, **options: Any) -> Any:
        found = super().restore_group(group_id, *args, **options)
        if found is not None and found.id != group_id:
            raise EnvelopeContextMismatch("the stored group is another one")
        return found

    def on_chord_part_return(self, request: Any, *args: Any, **options: Any) -> Any:
        with _set(_group, request.group):
            return super().on_chord_part_return(request, *args, **options)

    def _unpack_chord_result(self, part: Any, _: Any, **options: Any) -> Any:
        context = _chord(_group.get() or "")
        return super()._unpack_chord_result(part, lambda data: self.seals.open(data, context), **options)


def _sealed_backend(app: Celery, seals: _Seals) -> Any:
    """Return the app's backend: of the class that is configured, with results that are sealed."""
    seals.check()
    cls, url = backends.by_url(app.backend_cls or app.conf.result_backend, app.loader)
    if not issubclass(cls, BaseKeyValueStoreBackend | RPCBackend | DisabledBackend):
        raise ConfigurationError(
            f"result_backend: {cls.__name__} does not store what the serializer makes; use redis, rpc, file or another "
            "store of keys and values"
        )
    return type(cls.__name__, (_SealedBackend, cls), {"seals": seals})(app=app, url=url)


def _own(task_id: str, meta: Any) -> Any:
    """Return the result of a task. Raises EnvelopeContextMismatch if it belongs to another one."""
    if meta["status"] != "PENDING" and meta.get("task_id") != str(task_id):
        raise EnvelopeContextMismatch("the stored result is that of another task")
    return meta


def _place(headers: Mapping[str, Any]) -> dict[str, str]:
    found = {name: headers.get(name) for name in ("task", "id")}
    place = {name: text for name, text in found.items() if isinstance(text, str) and text.isprintable()}
    if place != found:
        raise EnvelopeMalformed("the message names no task with an id")
    return {"kind": "task"} | place


def _chord(group: str) -> dict[str, str]:
    return {"kind": "chord", "group": group}


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _seconds_until(eta: str | None, app: Celery) -> float:
    if eta is None:
        return 0
    moment: datetime = maybe_make_aware(maybe_iso8601(eta), app.timezone)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _plain(value: Any) -> Any:
    """Return a value with Celery's own classes as what they are in JSON: dicts, lists and tuples."""
    if isinstance(value, Signature):
        value = dict(value)
    elif isinstance(value, ResultBase):
        value = value.as_tuple()
    elif isinstance(value, _REGEN):
        value = list(value)
    if type(value) is dict:
        return {key: _plain(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(each) for each in value)
    return value
