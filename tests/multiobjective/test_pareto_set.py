"""A network from preferences to solutions."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.multiobjective import Problem, hypervolume, learn_pareto_set


def _objectives(x: jax.Array) -> jax.Array:
    rest = jnp.sum(x[1:] ** 2)
    return jnp.stack([x[0], 1 - x[0] ** 2 + rest])


@pytest.mark.slow
def test_all_preferences_have_solutions_on_the_front() -> None:
    problem = Problem(_objectives, jnp.asarray([0.0, -1.0]), jnp.ones(2), ideal=jnp.zeros(2), nadir=jnp.ones(2))
    found = learn_pareto_set(problem, hidden=32, steps=1500, batch=32, key=jr.key(0))
    first = jnp.linspace(0, 1, 50)
    solutions = jax.vmap(found)(jnp.stack([first, 1 - first], 1))
    assert float(jnp.min(solutions[:, 0])) >= 0 and float(jnp.max(solutions[:, 0])) <= 1
    values = jax.vmap(_objectives)(solutions)
    # With infinitely many points on the front it is 1.21 - 2/3.
    assert float(hypervolume(values, 1.1)) > 0.97 * 0.5433
    # Each solution lies on the ray of its preference.
    middle = np.asarray(values[15:35])
    np.testing.assert_allclose(middle[:, 0] / middle.sum(1), first[15:35], atol=0.06)


def test_units_of_the_front_are_needed() -> None:
    problem = Problem(_objectives, jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match="has no `ideal` or no `nadir`. Find them with `pareto_front`"):
        learn_pareto_set(problem)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        learn_pareto_set(problem, steps=0)
