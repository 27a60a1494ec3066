"""Calls of operators by the fuzzer: all operators, sound arguments, and the same calls again."""

import random

import pytest
import torch

import d2ext.ops  # noqa: F401  the operators are defined
from tools import fuzz_operators


def test_arguments_of_every_operator_are_sound():
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    ours = {name.removeprefix("d2ext::") for name in names if name.startswith("d2ext::")}
    for seed in range(5):
        calls = fuzz_operators._sound_arguments(random.Random(seed))
        assert calls.keys() == ours
        for name, arguments in calls.items():
            getattr(torch.ops.d2ext, name)(*arguments)


def test_most_damaged_arguments_are_others_and_the_same_seed_gives_the_same(monkeypatch):
    drawn = []

    def recorded(value, chance):
        drawn.append((value, damaged(value, chance)))
        return drawn[-1][1]

    damaged = fuzz_operators._damaged
    monkeypatch.setattr(fuzz_operators, "_damaged", recorded)
    for _ in range(2):
        fuzz_operators.call_operators(b"a seed")
    first, second = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert repr(first) == repr(second)
    changed = [repr(before) != repr(after) for before, after in first]
    assert len(changed) > 50
    assert sum(changed) > 0.6 * len(changed)


def test_what_is_no_error_of_an_argument_is_not_swallowed(monkeypatch):
    def broken(chance):
        return {"no such operator": [1]}

    monkeypatch.setattr(fuzz_operators, "_sound_arguments", broken)
    with pytest.raises(AttributeError):
        fuzz_operators.call_operators(b"")
