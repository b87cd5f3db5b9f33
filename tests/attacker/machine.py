"""A Hypothesis state machine that chooses what the attacker does next."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from attacker.deployment import CARRIERS
from attacker.wire import Alteration, Wire

STEPS = 60
"""Steps in a row from the same beginning."""
_number = st.integers(0, 1023)
_one = st.integers(0, 15)
_few = st.integers(0, 3)
_byte = st.integers(0, 255)
_altered = st.tuples(st.integers(0, 6), _few)


class Attacker(RuleBasedStateMachine):
    """Everything that an attacker can do who owns the wire behind TLS."""

    steps = delivered = 0
    """Steps, and delivered events, of all machines together."""

    @initialize(carrier=st.sampled_from(CARRIERS), kind=_number, other=_number)
    def begin(self, carrier: str, kind: int, other: int) -> None:
        self.wire = Wire(carrier)
        self.wire.connect(kind)
        self.wire.connect(other)

    def teardown(self) -> None:
        Attacker.delivered += self.wire.delivered

    def step(self) -> Wire:
        Attacker.steps += 1
        return self.wire

    @rule(kind=_number, of_welcome=st.booleans(), field=st.integers(0, 6), value=_few)
    def bend(self, kind: int, of_welcome: bool, field: int, value: int) -> None:
        hello, welcome = (None, (field, value)) if of_welcome else ((field, value), None)
        self.step().bend(kind, hello, welcome)

    @rule(kind=_number, hello=_altered, welcome=_altered)
    def bend_both(self, kind: int, hello: Alteration, welcome: Alteration) -> None:
        self.step().bend(kind, hello, welcome)

    @rule(kind=_number, other=_few | _number)
    def meet(self, kind: int, other: int) -> None:
        self.step().meet(kind, other)

    @rule(which=_number)
    def twin(self, which: int) -> None:
        self.step().twin(which)

    @rule(which=_one, what=_one, request=_few, payload=_byte)
    def act(self, which: int, what: int, request: int, payload: int) -> None:
        self.step().act(which, what, request, bytes([payload, self.steps & 255]))

    @rule(which=_one, what=_one, payload=_byte)
    def act_and_relay(self, which: int, what: int, payload: int) -> None:
        wire = self.step()
        wire.act(which, what, 0, bytes([payload, self.steps & 255]))
        wire.relay(which)

    @rule(which=_one, what=_one, request=_few)
    def act_at_length(self, which: int, what: int, request: int) -> None:
        self.step().act(which, what, request, bytes(20_000))

    @rule(which=_one, count=_few)
    def relay(self, which: int, count: int) -> None:
        wire = self.step()
        for _ in range(count + 1):
            wire.relay(which)

    @rule(which=_one, count=_few)
    def skip(self, which: int, count: int) -> None:
        self.step().skip(which, count)

    @rule(which=_one, back=_one)
    def repeat(self, which: int, back: int) -> None:
        self.step().repeat(which, back)

    @rule(which=_one)
    def reflect(self, which: int) -> None:
        self.step().reflect(which)

    @rule(which=_one, source=_number)
    def splice(self, which: int, source: int) -> None:
        self.step().splice(which, source)

    @rule(which=_one, place=_few, field=st.integers(0, 6), value=_one)
    def alter(self, which: int, place: int, field: int, value: int) -> None:
        self.step().alter(which, place, field, value)

    @rule(which=_one, place=_number, flip=_byte)
    def spoil(self, which: int, place: int, flip: int) -> None:
        self.step().spoil(which, place, flip)


def attack(steps: int, *, derandomize: bool) -> int:
    """Let the attacker take that many steps; return how many it took. Raises Broken at the first broken promise."""
    Attacker.steps = Attacker.delivered = 0
    chosen = settings(
        derandomize=derandomize,
        max_examples=steps // STEPS,
        stateful_step_count=STEPS,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Attacker, settings=chosen)
    return Attacker.steps
