import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt.bench.l2o import _sparse
from metaopt.l2o import ALISTA
from metaopt.tasks import SparseCoding


FAMILY = SparseCoding(12, 20, density=0.1, signal="residual")


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path))
    monkeypatch.setattr(_sparse, "_SETS", 2)
    monkeypatch.setattr(_sparse, "_SIGNALS", 8)
    monkeypatch.setattr(_sparse, "_WEIGHTS", np.asarray([0.1, 0.03, 0.003]))
    monkeypatch.setattr(_sparse, "_CHUNK", 20)
    monkeypatch.setattr(_sparse, "_CAP", 300)


def test_errors_are_those_of_whole_sets():
    tasks = _sparse._draw(FAMILY, 8)
    assert tasks.code.shape == (2, 8, 20)
    np.testing.assert_allclose(_sparse._decibels(tasks, jnp.zeros_like(tasks.code)), 0, atol=1e-5)
    np.testing.assert_allclose(_sparse._decibels(tasks, 1.1 * tasks.code), -20, rtol=1e-4)
    # The first signals of a larger draw are those of a smaller one.
    np.testing.assert_array_equal(_sparse._draw(FAMILY, 3).code, tasks.code[:, :3])


@pytest.mark.parametrize("name", ["ISTA", "FISTA"])
def test_steps_are_those_of_a_search_without_shortcuts(name):
    tasks, make = _sparse._draw(FAMILY, 4), _sparse._peers(FAMILY)[name]
    curves = np.stack([_sparse._curve(make(float(w)), tasks, 300) for w in _sparse._WEIGHTS])
    lowest = curves.min((0, 1))
    targets = np.stack([np.full(2, -1.0), lowest / 2, lowest * 0.9, lowest - 1])
    wanted = np.full(targets.shape, np.inf)
    for curve in curves:
        for (i, j), target in np.ndenumerate(targets):
            hit = np.flatnonzero(curve[:, j] <= target)
            if hit.size:
                wanted[i, j] = min(wanted[i, j], hit[0] + 1)
    np.testing.assert_array_equal(_sparse._steps_to(make, tasks, targets), wanted)
    assert np.isinf(wanted[-1]).all() and np.isfinite(wanted[:-1]).all()


@pytest.mark.slow
def test_trained_rules_are_kept(monkeypatch):
    recipe = _sparse._Recipe(lambda a: ALISTA(a, 2), 0.03, 0.0, 2)
    monkeypatch.setattr(_sparse, "RECIPES", {"ALISTA": recipe})
    rule, seconds = _sparse.trained_rule("ALISTA", FAMILY, 0)
    assert seconds > 0 and not eqx.tree_equal(rule.layers, ALISTA(FAMILY.dictionary, 2).layers)

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(_sparse, "train_unfolded", refuse)
    again, same = _sparse.trained_rule("ALISTA", FAMILY, 0)
    assert eqx.tree_equal(again, rule) and same == seconds
    for other in (dataclasses.replace(recipe, steps=3), dataclasses.replace(recipe, make=lambda a: ALISTA(a, 2, 0.2))):
        monkeypatch.setattr(_sparse, "RECIPES", {"ALISTA": other})
        with pytest.raises(AssertionError, match="trained again"):
            _sparse.trained_rule("ALISTA", FAMILY, 0)


def test_claims_say_what_was_measured():
    names = list(_sparse.RECIPES)
    last = {name: np.full((1, 2), -20.0 - 10 * i) for i, name in enumerate(names)}
    steps = {
        "ISTA": np.asarray([[160, 320]] * (len(names) - 1) + [[np.inf, 300]]),
        "FISTA": np.full((len(names), 2), 32.0),
    }
    ista, fista, error = _sparse._claims(last, steps)
    assert (ista.id, fista.id, error.id) == ("steps_vs_ista", "steps_vs_fista", "nmse_db")
    assert ista.value == 18.75 and "lower bound: " + names[-1] in ista.note
    assert fista.value == 2 and error.value == -50
