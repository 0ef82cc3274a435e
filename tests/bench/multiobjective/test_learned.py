import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.bench.multiobjective import _learned
from metaopt.multiobjective import SharedCurvature, WeightedSum
from metaopt.registry import sgd


@pytest.mark.parametrize("quartic", [0.0, 0.1])
def test_points_of_the_front(quartic: float) -> None:
    problem = _learned._Quadratics(quartic).sample(key=jr.key(0))
    weights = jnp.asarray([0.3, 0.7])
    jacobian = jax.jacobian(problem.values)(problem.optimum(weights))
    # Gradients of the two objectives are opposite there.
    cosine = jacobian[0] @ jacobian[1] / (jnp.linalg.norm(jacobian[0]) * jnp.linalg.norm(jacobian[1]))
    np.testing.assert_allclose(cosine, -1, atol=1e-4)


@pytest.mark.slow
def test_steps_until_the_front_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_learned, "_LONGEST", 3)
    algorithm = SharedCurvature(WeightedSum(sgd(0.0)))
    newton = eqx.tree_at(lambda a: a.trust.layers[-1].bias, algorithm, jnp.ones(1))
    keys = jr.split(jr.key(0), 1)
    assert int(_learned._needed(newton, _learned._Quadratics(), keys)[0]) == 1
    # What stays where it is never finds it.
    assert int(_learned._needed(algorithm, _learned._Quadratics(), keys)[0]) == 4
