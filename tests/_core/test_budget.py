"""Calls that are ended when they take too long."""

import cProfile
import importlib
import sys

import pytest

from metaopt._core._budget import OverBudget, budget


def _calls(count: int) -> int:
    return sum(len(str(number)) for number in range(count))


def test_what_stays_below_is_not_touched() -> None:
    with budget(10_000):
        assert _calls(100) == 190
    assert sys.getprofile() is None


def test_what_goes_beyond_is_ended() -> None:
    with pytest.raises(OverBudget):
        with budget(10_000):
            try:
                _calls(10**9)
            except Exception:  # no handler of errors may take it for one of its own
                pytest.fail("It is no error of the call.")
    assert sys.getprofile() is None


def test_imports_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr("builtins.print", lambda text: _calls(2000))
    with budget(1000):
        importlib.import_module("this")


def test_a_profiler_goes_on() -> None:
    with cProfile.Profile():
        with budget(1_000_000):
            assert _calls(100) == 190
