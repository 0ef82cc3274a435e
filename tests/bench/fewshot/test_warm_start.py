"""`warm-start` on small cases."""

import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import metaopt
from metaopt.bench.fewshot._warm_start import _TARGETS, _curve, _Geometries, _Outcome, _Smooth
from metaopt.scf import Switching


PARABOLA = _Smooth(
    lambda *, key: jnp.zeros(()),
    lambda x, z, data: 0.5 * jnp.sum((x - z) ** 2) + data,
    lambda data: jnp.full(1, 3.0),
)


@pytest.mark.usefixtures("x64")
def test_steps_are_counted_until_a_share_of_the_gap_is_left():
    z, data = jnp.asarray([1.0]), jnp.asarray(5.0)
    levels = PARABOLA.levels(z, data)
    np.testing.assert_allclose(levels, 5 + 2 * np.asarray(_TARGETS), rtol=1e-12)
    descent = metaopt.from_optax(optax.sgd, learning_rate=0.5)
    # Each step divides the gap by four.
    run = PARABOLA.run(descent, jnp.full(1, 3.0), z, data, levels)
    assert run.steps.tolist() == [5, 7, 10]
    assert PARABOLA.run(descent, z, z, data, levels).steps.tolist() == [0, 0, 0]
    assert PARABOLA.run(descent, jnp.full(1, 3.0), z, data, levels, 6).steps.tolist() == [5, 6, 6]


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "pyscf")
def test_a_molecule_is_solved_at_its_solution():
    water = _Geometries(basis="sto-3g")
    data = water.drawn(key=jr.key(0))
    problem = jtu.tree_map(lambda x: x[0], water.problems(jnp.asarray([[0.95, 1.0, 104.0]])))
    levels, cold = water.levels(problem, data), water.cold(problem, data)
    run = water.run(Switching(), cold, problem, data, levels)
    assert 0 < run.steps[0] <= run.steps[-1] < 12
    np.testing.assert_allclose(water.value(run.params, problem, data), water.minimum(problem, data), atol=1e-10)
    assert water.run(Switching(), run.params, problem, data, levels).steps.tolist() == [0, 0, 0]


def test_ratios_and_extra_evaluations():
    cold, warm = np.asarray([[4, 8], [6, 9]]), np.asarray([[0, 2], [7, 9]])
    found = _Outcome(cold, warm, np.asarray([True, False]), np.asarray([0.9, 0.1]))
    np.testing.assert_allclose(found.ratios, [[4, 4], [6 / 7, 1]])
    assert found.extra.tolist() == [[-3, -5], [2, 1]]
    middle, gain, (low, high) = _curve(found)
    assert middle.tolist() == [0.1, 0.9] and gain.tolist() == low.tolist() == high.tolist() == [1, 4]
