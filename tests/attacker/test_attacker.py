"""A short attack, always the same one, and the flaw that it finds in each mutant. ``make attack`` is the long one."""

from __future__ import annotations

import pytest

from attacker.__main__ import MUTANT_STEPS
from attacker.machine import Attacker, attack
from attacker.mutants import LEFT_OUT, Mutant, applied
from attacker.promises import Broken

LONG = {"direction", "identity of a key", "key id", "sequence"}
"""What takes the attacker seconds to find. ``make attack`` has these mutants, too."""


def test_breaks_no_promise() -> None:
    attack(5000, derandomize=True)
    # Its messages do get through, so that there is something to attack.
    assert Attacker.delivered > Attacker.steps / 4


def test_breaks_no_promise_without_native_core() -> None:
    with applied(Mutant()):
        attack(2000, derandomize=True)


@pytest.mark.parametrize("name", [name for name in LEFT_OUT if name not in LONG])
def test_finds_what_is_left_out(name: str) -> None:
    with applied(LEFT_OUT[name]), pytest.raises(Broken):
        attack(MUTANT_STEPS, derandomize=True)
