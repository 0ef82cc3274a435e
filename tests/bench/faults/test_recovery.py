"""The share of faults that guarded runs recover from, at small size."""

import pytest

import metaopt
from metaopt.bench.faults import _recovery
from metaopt.registry import DEFAULT


def test_the_claim_counts_what_recovered() -> None:
    rows, (claim,) = _recovery.measure(full=False, only=["sgd"], seeds=[3])
    assert claim.id == "recovered_share" and claim.value == 1
    assert rows[0]["recovered"] == rows[0]["faults"] == len(_recovery.faults())
    assert "seeds [3]" in claim.note


def test_all_algorithms_are_in_it() -> None:
    assert set(DEFAULT.names(metaopt.AbstractAlgorithm)) < set(_recovery.names())


@pytest.mark.slow
def test_all_algorithms_can_be_made() -> None:
    for name in _recovery.names():
        assert isinstance(_recovery.make(name), metaopt.AbstractAlgorithm)
