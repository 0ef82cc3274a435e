"""One bad number among good ones leaves no trace in a guarded run."""

from collections.abc import Callable

import numpy as np
import pytest

import metaopt
from metaopt.bench.faults import _recovery
from metaopt.bench.faults._recovery import BAD, TOLERANCE, Fault
from metaopt.l2o import BaselineGuarded, LossGuarded, Safeguarded
from metaopt.registry import sgd
from tests._cases import fast

from .algorithms import FEW


# A seed, and one time for faults that are finite and one for all: what differs elsewhere is that of the benchmark.
FAULTS = [fault for fault in _recovery.faults() if fault.time <= 10]
PRETRAINED = [f"pretrained {name}" for name in _recovery.PRETRAINED]


@pytest.mark.parametrize("name", [*FEW, *[pytest.param(name, marks=pytest.mark.slow) for name in PRETRAINED]])
def test_a_guarded_run_recovers(name: str) -> None:
    finite, ratios = _recovery.recovered(_recovery.make(name), FAULTS, [0])
    lost = [fault for fault, fine, ratio in zip(FAULTS, finite[0], ratios[0], strict=True) if not fine * ratio > 0]
    assert not lost
    assert np.max(ratios) <= TOLERANCE


GUARDS: dict[str, Callable[[metaopt.AbstractAlgorithm], metaopt.AbstractAlgorithm]] = {
    "safeguarded": lambda inner: Safeguarded(inner, sgd()),
    "loss_guarded": lambda inner: LossGuarded(inner, sgd()),
    "baseline_guarded": lambda inner: BaselineGuarded(inner, sgd(), np.geomspace(4, 1, 100)),
}
# In these what is not finite in one tensor, or in the loss, reaches all other tensors.
INNER = ["hypergradient", "polyak", "velo", "pretrained general"]
_inner = [pytest.param(name, marks=[pytest.mark.slow] * (name != "hypergradient")) for name in INNER]


@pytest.mark.parametrize("guard", fast(list(GUARDS), "safeguarded", "loss_guarded"))
@pytest.mark.parametrize("name", _inner)
def test_no_guard_is_poisoned(name: str, guard: str) -> None:
    faults = [Fault(bad, place, 10) for bad in BAD if abs(bad) != BAD[-1] for place in _recovery.PLACES]
    finite, ratios = _recovery.recovered(_recovery.make(name), faults, [0], GUARDS[guard])
    assert np.all(finite)
    # A finite number is for `skip_non_finite`: gradient descent, the fallback, does what it says.
    known = np.asarray([not np.isfinite(fault.bad) for fault in faults])
    assert np.max(ratios[:, known]) < 1.1  # a fault may call the fallback, but the run goes on


@pytest.mark.parametrize("fallback", ["adam", pytest.param("hypergradient", marks=pytest.mark.slow)])
def test_no_fallback_is_poisoned(fallback: str) -> None:
    """Where the fallback is in charge, which is so at all times beside a rule that only stands still."""
    faults = [Fault(bad, place, 10) for bad in BAD[:5] for place in _recovery.PLACES]
    rests = metaopt.registry.build({"name": "sgd", "learning_rate": 0.0}, metaopt.AbstractAlgorithm)
    baseline = np.geomspace(4, 1e-3, 100)
    finite, ratios = _recovery.recovered(
        rests, faults, [0], lambda inner: BaselineGuarded(inner, _recovery.make(fallback), baseline)
    )
    assert np.all(finite) and np.max(ratios) < 1.1


def test_what_a_fault_does_without_a_guard() -> None:
    """The law would notice."""
    finite, ratios = _recovery.recovered(_recovery.make("adam"), FAULTS, [0], lambda inner: inner)
    lost = ~finite[0] | ~(ratios[0] <= TOLERANCE)
    assert all(missed for fault, missed in zip(FAULTS, lost, strict=True) if fault.place != "value")
