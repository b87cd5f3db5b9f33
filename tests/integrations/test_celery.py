"""Celery with sealed tasks and results: real workers on Redis and on RabbitMQ, and brokers that meddle."""

from __future__ import annotations

import gc
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError
from celery.signals import before_task_publish
from kombu.exceptions import DecodeError, EncodeError
from kombu.serialization import registry

import sealwire
from sealwire import Allowlist, Codec, ConfigurationError, EnvelopeContextMismatch, EnvelopeMalformed, Key, Keyring
from sealwire.integrations.celery import install
from sealwire.pki.files import PRIVATE, NewFile, write_files
from support import brokers
from support.service import eventually
from support.shop import Order, made

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Call to :DeprecationWarning"),  # Celery's own calls
]
TEA = Order("tea", Decimal("4.20"))
WAIT = 60


class Place:
    """A broker, a worker, and the app of a program that sends tasks."""

    def __init__(self, directory: Path, broker: str, backend: str, name: str) -> None:
        self.directory = directory
        self.keyring = directory / "keyring.toml"
        self.write_keys("first")
        self.environment = {"BROKER": broker, "BACKEND": backend, "KEYRING": str(self.keyring), "NAME": name}
        self.app = made(self.environment)
        self.worker = brokers.Worker(directory, self.environment, "-c", "2", "-n", f"{name}@%h")

    def write_keys(self, *names: str, more: str = "") -> None:
        keys = "".join(f'[[key]]\nid = "{name}"\nsecret = "{name[0] * 43}="\n' for name in names)
        write_files([NewFile(self.keyring, (keys + more).encode(), PRIVATE)], replace=True)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.app.tasks[name].apply_async(args, **options)

    def run(self, name: str, *args: Any, **options: Any) -> Any:
        return self.send(name, *args, **options).get(WAIT)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        with self.app.connection_for_write() as connection, connection.channel() as channel:
            yield channel

    def captured(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task to a queue that nobody works on, and return its message, as the broker has it."""
        self.send(name, *args, queue="aside", **options)
        with self.channel() as channel:
            return kombu.Queue("aside", kombu.Exchange("aside"), "aside")(channel).get(no_ack=True)

    def inject(self, body: Any, headers: dict[str, Any], content_type: str, encoding: str = "binary") -> None:
        """Put a message into the worker's queue, as the broker can."""
        with self.channel() as channel:
            kombu.Producer(channel).publish(
                body,
                routing_key="celery",
                content_type=content_type,
                content_encoding=encoding,
                headers=headers,
                correlation_id=str(headers.get("id")),
                reply_to="",
            )

    def replay(self, message: Any, body: bytes | None = None, **headers: Any) -> None:
        self.inject(message.body if body is None else body, message.headers | headers, message.content_type)

    def refusal(self) -> str:
        return self.worker.logged("refused a message").partition("ERROR/MainProcess] ")[2].strip()

    def nothing_is_left(self) -> None:
        """The worker goes on, and no refused message has come again meanwhile."""
        begun = self.worker._seen
        assert self.run("price", TEA) == TEA.price
        assert "refused" not in self.worker.log.read_text()[begun:]


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp(request.param)
    server = brokers.redis_server if request.param == "redis" else brokers.rabbitmq_server
    with server(directory) as address:
        broker, backend = (f"redis+socket://{address}",) * 2 if request.param == "redis" else (address, "rpc://")
        place = Place(directory, broker, backend, f"sealwire-{request.param}")
        with place.worker:
            yield place
        # What holds results, some of them by the traceback of an exception.
        for holder in (*place.app.backend._pending_results, place.app.backend._cache):
            holder.clear()
        gc.collect()  # a result that goes later asks the broker to forget it
        place.app.backend.result_consumer.stop()
        place.app.close()
        registry.unregister(place.environment["NAME"])


class TestWork:
    def test_arguments_and_results_of_listed_types(self, place: Place) -> None:
        assert place.run("price", TEA) == Decimal("4.20")
        assert place.send("price", TEA, kwargs={"times": 2}).get(WAIT) == Decimal("8.40")

    def test_what_the_broker_can_read(self, place: Place) -> None:
        message = place.captured("price", Order("secret-item", Decimal(1)), kwargs={"times": 3})
        shown = repr(message.headers) + repr(message.properties) + repr(message.delivery_info)
        assert message.headers["argsrepr"] == message.headers["kwargsrepr"] == "<sealed>"
        assert "secret-item" not in shown
        assert b"secret-item" not in bytes(message.body)
        assert bytes(message.body)[:4] == b"SWE\x01"
        assert "secret-item" not in place.worker.log.read_text()

    def test_a_task_that_fails(self, place: Place) -> None:
        with pytest.raises(LookupError, match="no tea"):
            place.run("fail", "no tea")

    def test_retries_keep_id_and_headers(self, place: Place) -> None:
        assert place.run("flaky", TEA, 2, headers={"tenant": "a"}) == [TEA, 2, "a"]

    def test_eta_and_time_limits(self, place: Place) -> None:
        eta = datetime.now(UTC) + timedelta(seconds=0.3)
        found = place.run("note", eta=eta, soft_time_limit=50)
        assert datetime.fromisoformat(found["eta"]) == eta
        assert found["timelimit"] == [None, 50]
        assert found["argsrepr"] == "<sealed>"

    def test_groups_and_chains(self, place: Place) -> None:
        price, total = place.app.tasks["price"], place.app.tasks["total"]
        assert group(price.s(TEA), price.s(TEA, times=2))().get(WAIT) == [Decimal("4.20"), Decimal("8.40")]
        assert chain(total.s([Decimal(1), Decimal(2)]), total.si([Decimal(5)]))().get(WAIT) == Decimal(5)

    def test_chords(self, place: Place) -> None:
        price, total = place.app.tasks["price"], place.app.tasks["total"]
        if place.environment["BACKEND"] == "rpc://":
            with pytest.raises(NotImplementedError, match="does not support chords"):
                chord([price.s(TEA)], total.s())()
            return
        assert chord([price.s(TEA), price.s(TEA, times=2)], total.s())().get(WAIT) == Decimal("12.60")
        nested = group(price.s(TEA), group(price.s(TEA), price.s(TEA))) | total.s()
        assert nested.apply_async().get(WAIT) == Decimal("12.60")

    def test_headers_of_hooks_are_sealed(self, place: Place) -> None:
        def trace(headers: dict[str, Any], **_: Any) -> None:
            headers["trace"] = "4bf92f35"

        before_task_publish.connect(trace, weak=False)
        try:
            assert place.run("note")["trace"] == "4bf92f35"
        finally:
            before_task_publish.disconnect(trace)

    def test_callbacks(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "go").touch()
        result = place.send("price", TEA, link=place.app.tasks["hold"].si(str(tmp_path)))
        assert result.get(WAIT) == TEA.price
        assert eventually(lambda: (tmp_path / "begun").exists())

    def test_remote_control_and_events_are_sealed(self, place: Place) -> None:
        name = f"{place.environment['NAME']}@"
        replies = place.app.control.ping(timeout=WAIT, limit=1)
        assert [next(iter(reply)).startswith(name) for reply in replies] == [True]
        seen: dict[str, Any] = {}
        with place.app.connection_for_read() as connection:
            receiver = place.app.events.Receiver(
                connection, handlers={"task-succeeded": lambda event: seen.update({event["uuid"]: event["result"]})}
            )
            assert receiver.accept == {place.environment["NAME"]}
            capturing = receiver.itercapture(limit=None, timeout=WAIT, wakeup=False)
            next(capturing)
            result = place.send("price", TEA)
            while result.id not in seen:
                next(capturing)
        assert seen[result.id] == "Decimal('4.20')"


class TestKilled:
    def test_a_task_runs_again_after_its_worker_was_killed(self, place: Place) -> None:
        directory = place.directory / "killed"
        directory.mkdir()
        result = place.send("hold", str(directory))
        begun = directory / "begun"
        assert eventually(lambda: begun.exists() and begun.read_text())
        place.worker.kill()
        (directory / "go").touch()
        place.worker.start()
        if "redis" in place.environment["NAME"]:
            # What a worker does itself once the visibility timeout is over, an hour by default.
            with place.app.connection_for_read(transport_options={"visibility_timeout": 0}) as connection:
                connection.channel().qos.restore_visible(interval=1)
        assert result.get(WAIT) == "done"
        assert len(begun.read_text().splitlines()) == 2


class TestMeddling:
    """Each is refused before any of Celery's code has acted on it, once, and the worker goes on."""

    def test_a_task_that_was_moved_to_another_name(self, place: Place) -> None:
        place.replay(place.captured("price", TEA), task="refund")
        assert "for refund[" in (line := place.refusal())
        assert "EnvelopeContextMismatch" in line
        place.nothing_is_left()

    def test_a_task_that_was_given_another_id(self, place: Place) -> None:
        place.replay(place.captured("price", TEA), id="0" * 8)
        assert "for price[00000000]: EnvelopeContextMismatch" in place.refusal()
        place.nothing_is_left()

    def test_an_unknown_task_writes_no_result(self, place: Place) -> None:
        """Celery would store the failure under the id that the message names."""
        victim = place.captured("price", TEA)
        place.replay(victim, task="nosuch")
        assert place.refusal() == (
            "refused a message: EnvelopeContextMismatch: the envelope was sealed for another purpose, codec or context"
        )
        place.nothing_is_left()
        assert place.app.AsyncResult(victim.headers["id"]).state == "PENDING"

    def test_a_flipped_bit(self, place: Place) -> None:
        message = place.captured("price", TEA)
        body = bytearray(message.body)
        body[-1] ^= 1
        place.replay(message, bytes(body))
        assert "for price[" in (line := place.refusal())
        assert "EnvelopeForged" in line
        place.nothing_is_left()

    def test_a_replay_after_its_time(self, place: Place) -> None:
        message = place.captured("price", TEA)
        envelope = sealed_by(place, "price", message.headers["id"], ago=700)
        place.replay(message, envelope)
        assert "EnvelopeExpired" in place.refusal()
        place.nothing_is_left()

    def test_a_pickle_and_json(self, place: Place, tmp_path: Path) -> None:
        owned = tmp_path / "owned"
        pickled = b"cos\nsystem\n(S'touch %s'\ntR." % str(owned).encode()
        headers = {"task": "price", "id": "1"}
        place.inject(pickled, headers, "application/x-python-serialize")
        assert "for price[1]: EnvelopeMalformed: not of the content type" in place.refusal()
        place.inject(json.dumps([[1], {}, {}]).encode(), headers, "application/json", "utf-8")
        assert "EnvelopeMalformed" in place.refusal()
        sealed_type = f"application/x-{place.environment['NAME']}"
        for body in (pickled, b"", b"[[1], {}, {}]"):
            place.inject(body, headers, sealed_type)
            assert "EnvelopeMalformed: not an envelope" in place.refusal()
        place.inject(json.dumps({"task": "price", "id": "1", "args": [1], "kwargs": {}}).encode(), {}, sealed_type)
        assert "EnvelopeMalformed: the message names no task" in place.refusal()
        for wrong in ({"id": 5}, {"id": None}, {"task": ["price"]}, {"task": {"a": 1}}, {"id": "a\nb"}):
            place.inject(b"SWE\x01", headers | wrong, sealed_type)
            assert "EnvelopeMalformed: the message names no task" in place.refusal()
        place.nothing_is_left()
        assert not owned.exists()

    def test_headers_beside_the_envelope_have_no_effect(self, place: Place) -> None:
        message = place.captured("note", headers={"tenant": "a"})
        far = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        changed = {"eta": far, "expires": past, "retries": 9, "timelimit": [0.001, 0.001], "tenant": "b", "more": "x"}
        if "rabbitmq" in place.environment["NAME"]:
            message.headers |= changed
            with place.channel() as channel:
                kombu.Producer(channel).publish(
                    bytes(message.body), routing_key="celery", headers=message.headers,
                    content_type=message.content_type, content_encoding="binary",
                    correlation_id=message.headers["id"], reply_to=place.app.thread_oid,
                )  # fmt: skip
        else:
            place.replay(message, **changed)
        found = place.app.AsyncResult(message.headers["id"]).get(WAIT)
        assert (found["eta"], found["retries"], found["timelimit"]) == (None, 0, [None, None])
        assert (found["tenant"], found["more"]) == ("a", None)

    @pytest.mark.parametrize("place", ["rabbitmq"], indirect=True)
    def test_what_is_refused_goes_to_the_dead_letter_exchange(self, place: Place) -> None:
        message = place.captured("price", TEA)
        with place.channel() as channel:
            aside = kombu.Queue("refused", kombu.Exchange(""), "refused")(channel)
            aside.declare()
            aside.purge()
            place.replay(message, task="refund")
            place.refusal()
            found: list[Any] = []
            assert eventually(lambda: found.append(aside.get(no_ack=True)) or found[-1] is not None)
            assert bytes(found[-1].body) == bytes(message.body)

    def test_a_message_of_another_app_with_the_same_keys(self, place: Place) -> None:
        other = Celery("other", set_as_current=False)
        install(other, Keyring.from_file(place.keyring), name="other")
        try:
            message = place.captured("price", TEA)
            body = other.amqp.as_task_v2(message.headers["id"], "price", [1]).body
            place.replay(message, registry.dumps(body, serializer="other")[2])
        finally:
            registry.unregister("other")
        assert "EnvelopeContextMismatch" in place.refusal()
        place.nothing_is_left()

    def test_a_remote_command_in_json_has_no_effect(self, place: Place) -> None:
        mailbox = place.app.control.mailbox
        with place.channel() as channel:
            kombu.Producer(channel).publish(
                {"method": "shutdown", "arguments": {}, "destination": None},
                exchange=mailbox.exchange, serializer="json", declare=[mailbox.exchange],
            )  # fmt: skip
        place.worker.logged("ContentDisallowed")
        place.nothing_is_left()


@pytest.mark.parametrize("place", ["redis"], indirect=True)
class TestStore:
    """A store of results that meddles."""

    @pytest.fixture
    def store(self, place: Place) -> Any:
        return place.app.backend.client

    def test_a_result_at_the_place_of_another(self, place: Place, store: Any) -> None:
        results = [place.send("price", TEA, times) for times in (1, 2)]
        assert [result.get(WAIT) for result in results] == [Decimal("4.20"), Decimal("8.40")]
        one, other = (f"celery-task-meta-{result.id}" for result in results)
        assert b"4.20" not in store.get(one)
        store.rename(one, other)
        place.app.backend._cache.clear()
        with pytest.raises(EnvelopeContextMismatch, match="another task"):
            assert place.app.AsyncResult(results[1].id).state
        with pytest.raises(EnvelopeContextMismatch, match="another task"):
            list(place.app.backend.get_many([results[1].id]))
        with pytest.raises(DecodeError):
            registry.loads(store.get(other), place.app.backend.content_type, "binary")

    def test_a_group_at_the_place_of_another(self, place: Place, store: Any) -> None:
        price = place.app.tasks["price"]
        groups = [group(price.s(TEA), price.s(TEA))() for _ in range(2)]
        for each in groups:
            each.save()
        assert place.app.GroupResult.restore(groups[0].id) == groups[0]
        store.rename(f"celery-taskset-meta-{groups[0].id}", f"celery-taskset-meta-{groups[1].id}")
        with pytest.raises(EnvelopeContextMismatch, match="another one"):
            place.app.GroupResult.restore(groups[1].id)

    @pytest.mark.parametrize("compressed", [False, True])
    def test_results_that_are_not_sealed(self, place: Place, store: Any, compressed: bool, tmp_path: Path) -> None:
        pickled = b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "owned").encode()
        for number, forged in enumerate((pickled, b'{"status": "SUCCESS", "result": 1, "task_id": "0"}')):
            stored = b"\x00\x01" + gzip.compress(forged) if compressed else forged
            store.set(f"celery-task-meta-{number}", stored)
            with pytest.raises(EnvelopeMalformed):
                place.app.AsyncResult(str(number)).get(WAIT)
        assert not (tmp_path / "owned").exists()

    def test_parts_of_two_chords_that_are_exchanged(self, place: Place, store: Any, tmp_path: Path) -> None:
        same, hold = place.app.tasks["same"], place.app.tasks["hold"]
        chords = [chord([same.s(number), hold.s(str(tmp_path))], same.s())() for number in (1, 2)]
        one, other = (f"celery-taskset-meta-{each.parent.id}.j" for each in chords)
        assert eventually(lambda: store.zcard(one) == store.zcard(other) == 1)
        parts = [store.zrange(key, 0, -1)[0] for key in (one, other)]
        store.delete(one, other)
        store.zadd(one, {parts[1]: 0})
        store.zadd(other, {parts[0]: 0})
        (tmp_path / "go").touch()
        for each in chords:
            with pytest.raises(ChordError, match="sealed for another purpose, codec or context"):
                each.get(WAIT)


class TestSettings:
    @pytest.fixture
    def app(self, request: pytest.FixtureRequest) -> Iterator[Celery]:
        app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
        install(app, Keyring([Key("k1", bytes(32))]), name="tested")
        yield app
        app.close()
        registry.unregister("tested")

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("accept_content", ["tested", "json"]),
            ("accept_content", {"pickle"}),
            ("result_accept_content", None),
            ("task_serializer", "json"),
            ("result_serializer", "pickle"),
            ("event_serializer", "json"),
            ("task_protocol", 1),
            ("task_compression", "gzip"),
        ],
    )
    def test_that_are_changed_later(self, app: Celery, option: str, value: Any) -> None:
        app.conf[option] = value
        with app.connection_for_read() as connection:
            for use in (
                lambda: app.send_task("price", [1]),
                lambda: app.amqp.TaskConsumer(connection.channel()),
                lambda: app.backend,
            ):
                with pytest.raises(ConfigurationError, match=f"{option} must stay"):
                    use()

    @pytest.mark.parametrize("namespace", [None, "CELERY"])
    @pytest.mark.parametrize("is_first", [False, True])
    def test_of_a_module_open_nothing(self, namespace: str | None, is_first: bool) -> None:
        app = Celery("shop", broker="memory://", set_as_current=False)
        settings: dict[str, Any] = {"accept_content": ["json"], "task_serializer": "json"}
        if namespace is not None:
            settings = {f"CELERY_{option.upper()}": value for option, value in settings.items()}
        steps = [
            lambda: app.config_from_object(settings, namespace=namespace),
            lambda: install(app, Keyring([Key("k1", bytes(32))]), name="tested"),
        ]
        try:
            for step in steps if is_first else reversed(steps):
                step()
            assert (app.conf.accept_content, app.conf.task_serializer) == (["tested"], "tested")
            app.send_task("price", [1])
        finally:
            app.close()
            registry.unregister("tested")

    def test_a_worker_that_would_accept_json_does_not_start(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text(f'[[key]]\nid = "k1"\nsecret = "{"A" * 43}="\n')
        (tmp_path / "keys").chmod(0o600)
        environment = {"BROKER": "memory://", "BACKEND": "cache+memory://", "NAME": "lax", "LAX": "1"}
        with pytest.raises(AssertionError, match="accept_content must stay"):
            brokers.Worker(tmp_path, environment | {"KEYRING": str(tmp_path / "keys")}, "-P", "solo")

    @pytest.mark.parametrize("serializer", ["json", "pickle"])
    def test_another_serializer_encodes_no_task(self, app: Celery, serializer: str) -> None:
        with pytest.raises(EncodeError, match="must be sealed"):
            app.send_task("price", [1], serializer=serializer)

    def test_the_serializer_alone_opens_no_task(self, app: Celery) -> None:
        body = app.amqp.as_task_v2("1", "price", [1]).body
        assert (list(body), repr(body)) == ([[1], {}, body[2]], "<sealed>")
        kind, encoding, data = registry.dumps(body, serializer="tested")
        with pytest.raises(DecodeError, match="another purpose, codec or context"):
            registry.loads(data, kind, encoding, accept={kind})
        kind, encoding, data = registry.dumps({"method": "ping"}, serializer="tested")
        assert registry.loads(data, kind, encoding, accept={kind}) == {"method": "ping"}
        with pytest.raises(DecodeError, match="not an envelope, but text"):
            registry.loads("text", kind, "binary", accept={kind})

    def test_a_type_that_is_not_listed_is_not_sent(self, app: Celery) -> None:
        with pytest.raises(EncodeError, match="not on the allowlist"):
            app.send_task("price", [TEA])

    def test_a_store_that_pickles_is_refused(self) -> None:
        app = Celery("shop", broker="memory://", backend="mongodb://", set_as_current=False)
        install(app, Keyring([Key("k1", bytes(32))]), name="tested")
        registry.unregister("tested")
        with pytest.raises(ConfigurationError, match="MongoBackend does not store what the serializer makes"):
            _ = app.backend  # it is made now

    def test_a_key_that_ends_too_soon(self) -> None:
        app = Celery("shop", broker="memory://", set_as_current=False)
        end = datetime.now(UTC) + timedelta(hours=2)
        install(app, Keyring([Key("k1", bytes(32), not_after=end)]), lifetime=3600, name="tested")
        try:
            app.send_task("price", [1])
            for when in ({"countdown": 3700}, {"eta": (end - timedelta(minutes=50)).replace(tzinfo=None)}):
                with pytest.raises(EncodeError, match="before the envelope would"):
                    app.send_task("price", [1], **when)
        finally:
            registry.unregister("tested")
            app.close()

    def test_mistakes(self, app: Celery) -> None:
        keys = Keyring([Key("k1", bytes(32))])

        def fresh() -> Celery:
            return Celery("other", broker="memory://", set_as_current=False)

        used, finalized = fresh(), fresh()
        assert used.amqp
        finalized.finalize()
        for attempt, why in (
            (lambda: install(fresh(), keys, name="tested"), "'tested' is taken in this process"),
            (lambda: install(fresh(), keys, name="json"), "'json' is taken in this process"),
            (lambda: install(used, keys, name="other"), "before the Celery app is used"),
            (lambda: install(finalized, keys, name="other"), "before the Celery app is used"),
            (lambda: install(fresh(), keys, name="Other/1"), "name must have 1 to 64"),
            (lambda: install(fresh(), keys, name="other", lifetime=0), "lifetime must be a number of seconds"),
            (lambda: install(fresh(), [Key("k1", bytes(32))], name="other"), "an envelope takes a Keyring"),
        ):
            with pytest.raises(ConfigurationError, match=why):
                attempt()


class TestRotation:
    def test_keys_follow_their_file(self, place: Place) -> None:
        place.write_keys("first", "second")
        place.app.amqp.seals._envelope._keys.reload()
        message = place.captured("price", TEA)
        assert b"\x06second" in bytes(message.body)[:60]
        assert place.run("price", TEA) == TEA.price, "the worker looks when it does not know a key"
        place.write_keys("second", more='[[key]]\nid = "first"\nrevoked = true\n')
        place.app.amqp.seals._envelope._keys.reload()
        old = sealed_by(place, "price", message.headers["id"], key="first")
        place.worker.logged("generation 3 in service")
        place.replay(message, old)
        assert "EnvelopeKeyUnknown" in place.refusal()
        place.nothing_is_left()
        place.write_keys("first")
        place.app.amqp.seals._envelope._keys.reload()
        place.worker.logged("generation 4 in service")


def sealed_by(place: Place, task: str, task_id: str, *, ago: float = 0, key: str | None = None) -> bytes:
    """A genuine body of a task, sealed some seconds ago, or with a key that the keyring has had."""
    name = place.environment["NAME"]
    keys = Keyring.from_file(place.keyring) if key is None else Keyring.from_toml(
        f'[[key]]\nid = "{key}"\nsecret = "{key[0] * 43}="\n'
    )  # fmt: skip
    envelope = sealwire.envelope.Envelope(keys, purpose=f"celery {name}", codec=Codec(Allowlist(Order)))
    headers = {"task": task, "id": task_id}
    return envelope.seal(
        [headers, [TEA], {}, {}],
        lifetime=600,
        context={"kind": "task"} | headers,
        now=datetime.now(UTC) - timedelta(seconds=ago),
    )
