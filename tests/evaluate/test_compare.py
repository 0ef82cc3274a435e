"""Comparisons whose outcome is known."""

import functools as ft
import json
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jaxtyping import ScalarLike

import metaopt
from metaopt.evaluate import Comparison, compare, report

from .problems import Bowls


def _sgd(rate: ScalarLike) -> metaopt.AbstractAlgorithm[Any, Any, Any]:
    return metaopt.from_optax(optax.sgd, learning_rate=rate)


# On a bowl, a step at rate a multiplies the loss by (1 - a)^2.
SLOW, TWICE = 0.1, 1 - 0.9**2


@ft.cache
def _comparison() -> Comparison:
    """One learner twice as fast as the only rate of the baseline, one that is as fast, and one that is too slow."""
    return compare(
        {"twice": _sgd(TWICE), "same": metaopt.Learner(_sgd(SLOW)), "late": [_sgd(0.05), _sgd(0.06)]},
        Bowls(),
        steps=20,
        key=jr.key(0),
        num_tasks=3,
        seeds=2,
        rates=[SLOW],
        baselines={"plain": _sgd},
        horizons=[1, 2],
        record_every=2,
        timing_repeats=1,
        progress=False,
    )


@pytest.mark.parametrize("horizon", [1, 2])
def test_curves_are_the_closed_form(horizon: int) -> None:
    run = _comparison().run("twice", horizon)
    assert run.steps.tolist() == [2 * horizon * i for i in range(11)]
    assert run.values.shape == (2, 3, 11)
    expected = run.values[..., :1] * (1 - TWICE) ** (2.0 * run.steps)
    np.testing.assert_allclose(run.values, expected, rtol=1e-4)


@pytest.mark.parametrize("horizon", [1, 2])
def test_twice_as_fast_is_a_speedup_of_two(horizon: int) -> None:
    speedup = _comparison().speedup("twice", "plain", horizon)
    assert speedup.overall == pytest.approx(2, rel=1e-3)
    np.testing.assert_allclose(speedup.seeds, 2, rtol=1e-3)
    np.testing.assert_allclose(speedup.tasks, 2, rtol=1e-3)
    assert speedup.reached.all() and speedup.won == 1


def test_the_same_method_ties() -> None:
    speedup = _comparison().speedup("same", "plain")
    assert speedup.overall == 1 and (speedup.tasks == 1).all() and speedup.won == 0.5


def test_never_reached_is_reported() -> None:
    speedup = _comparison().speedup("late", "plain")
    assert speedup.overall == 0 and speedup.bound == pytest.approx(1)
    assert not speedup.reached.any() and speedup.won == 0
    row = next(row for row in _comparison().rows() if row["method"] == "late")
    assert row["against"]["plain"]["speedup"] == 0 and row["against"]["plain"]["tasks_reached"] == 0


def test_each_seed_has_a_member_of_a_sequence() -> None:
    run = _comparison().run("late")
    rates = 1 - np.sqrt(run.values[:, 0, 1] / run.values[:, 0, 0]) ** 0.5
    np.testing.assert_allclose(rates, [0.05, 0.06], rtol=1e-3)


def test_all_methods_meet_the_same_tasks() -> None:
    runs = _comparison().runs
    for run in runs:
        np.testing.assert_array_equal(run.values[..., 0], runs[0].values[..., 0])
    starts = runs[0].values[..., 0].reshape(-1)
    assert np.unique(starts).size == starts.size


def test_baselines_are_tuned_for_each_horizon_and_extended() -> None:
    found = compare(
        {},
        Bowls(noise=0.5),
        steps=10,
        key=jr.key(3),
        num_tasks=4,
        seeds=1,
        rates=[0.002, 0.004, 0.008],
        baselines=["sgd", "adam_cosine"],
        horizons=[1, 4],
        timing_repeats=0,
        progress=False,
    )
    for run in found.runs:
        tuning = run.tuning
        assert tuning is not None and not run.learned
        assert tuning.rates.size == 3 + 2 * 2 and tuning.at_edge
        assert tuning.rate == tuning.rates[np.argmin(tuning.scores)] == pytest.approx(0.128)
        assert np.isnan(run.cost.seconds_per_step)
    # Tuned on other tasks than those of the comparison.
    tuning = found.run("sgd").tuning
    assert tuning is not None
    assert not np.isin(tuning.scores, np.median(found.run("sgd").final)).any()
    assert "*" in found.table() and "edge" in found.table()


def test_a_learned_initialization_is_where_a_run_starts(getkey: Any) -> None:
    learner = metaopt.Learner(_sgd(0.5), initial=jnp.full((3,), 100.0))
    options: dict[str, Any] = {"steps": 2, "num_tasks": 2, "seeds": 1, "timing_repeats": 0, "progress": False}
    found = compare({"far": learner}, Bowls(), key=getkey(), baselines=(), horizons=(1,), **options)
    assert (found.run("far").values[..., 0] > 1e3).all()
    with pytest.raises(ValueError, match="no method `near` at horizon 1. The methods are far; the horizons 1"):
        found.run("near")


def test_the_table_tells_everything() -> None:
    text = report(_comparison(), title="Bowls of fruit")
    assert text.startswith("Bowls of fruit\n\nBowls(): 2 x 3 tasks")
    assert "20 steps (1x the training horizon)" in text and "40 steps (2x the training horizon)" in text
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "2.00x" in lines["twice, plain"] and "100%" in lines["twice, plain"]
    assert "< 1x" in lines["late, plain"] and "0%" in lines["late, plain"]
    assert "0.100*" in lines["plain"] and "edge" in text
    assert max(map(len, text.splitlines())) <= 140


def test_json_holds_rows_and_curves(tmp_path: Any) -> None:
    path = tmp_path / "deep" / "result.json"
    text = _comparison().to_json(path)
    assert path.read_text() == text
    data = json.loads(text)
    assert data["seeds"] == 2 and data["num_tasks"] == 3 and data["statistic"] == "median"
    assert {row["method"] for row in data["methods"]} == {"twice", "same", "late", "plain"}
    assert len(data["curves"]) == 8 and len(data["curves"][0]["values"]) == 11
    assert data["curves"][3]["tuning"][0]["rate"] == SLOW
    assert data["machine"]["cores"] >= 1


def test_double_precision(x64: None) -> None:
    options: dict[str, Any] = {"steps": 60, "num_tasks": 2, "seeds": 1, "timing_repeats": 0, "progress": False}
    found = compare({"fast": _sgd(0.5)}, Bowls(), key=jr.key(0), baselines=(), horizons=(1,), **options)
    run = found.run("fast")
    np.testing.assert_allclose(run.final, run.values[..., 0] * 0.25**60, rtol=1e-9)


BAD = {
    "steps": ({"steps": 0}, "`steps` must be at least 1"),
    "tasks": ({"num_tasks": 0}, "`num_tasks` must be at least 1"),
    "horizon": ({"horizons": (1, 0)}, r"`horizons\[1\]` must be at least 1"),
    "no horizon": ({"horizons": ()}, "nothing to compare"),
    "nobody": ({"learners": {}, "baselines": ()}, "nothing to compare"),
    "baseline": ({"baselines": ("adm",)}, "no baseline 'adm'. Those known are sgd, momentum, adam, adamw, adam_cosine"),
    "twice": ({"learners": {"adam": _sgd(1.0)}}, "'adam' is the name of a learner and of a baseline"),
    "empty": ({"learners": {"none": []}}, r"`learners\['none'\]` has 0 members"),
    "many": ({"learners": {"many": [_sgd(1.0)] * 3}}, "has 3 members for 2 seeds"),
    "rates": ({"rates": [0.1, -1.0]}, "`rates` must be distinct positive numbers"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(case: tuple[dict[str, Any], str]) -> None:
    options, text = case
    arguments: dict[str, Any] = {"learners": {}, "steps": 2, "num_tasks": 2, "seeds": 2} | options
    with pytest.raises(ValueError, match=text):
        compare(family=Bowls(), key=jr.key(0), progress=False, **arguments)
