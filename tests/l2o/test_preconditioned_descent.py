import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import metaopt
from metaopt.l2o import PreconditionedDescent
from metaopt.tasks import Quadratics


def test_rates_of_the_spectrum_end_at_the_minimum(getkey):
    rule = PreconditionedDescent(3)
    # The Hessian is 2 W^2, with the eigenvalues 2, 0.2 and 0.02, four times each.
    rule = eqx.tree_at(lambda r: r.log_rates, rule, -jnp.log(jnp.asarray([2.0, 0.2, 0.02])))
    for key in jr.split(getkey(), 3):
        task = Quadratics(12, condition=100.0, levels=3).sample(key=key)
        found = metaopt.unroll(metaopt.Learner(rule), task, steps=3, key=key)
        assert float(task.measure(found.params, key=key)) < 1e-6 * float(found.values[0])


def test_the_inverse_hessian_ends_at_the_minimum(getkey):
    task = Quadratics(6, condition=50.0).sample(key=getkey())
    rule = PreconditionedDescent(1, size=6, learning_rate=1.0)
    rule = eqx.tree_at(lambda r: r.matrix, rule, jnp.linalg.inv(2 * task.matrix.T @ task.matrix))
    found = metaopt.unroll(metaopt.Learner(rule), task, steps=1, key=getkey())
    np.testing.assert_allclose(found.params, task.minimizer(), rtol=1e-3, atol=1e-4)


def test_against_a_few_lines_of_numpy(getkey):
    rule = PreconditionedDescent(2, size=5, learning_rate=(0.1, 0.4), momentum=0.3)
    rule = eqx.tree_at(lambda r: r.matrix, rule, jr.normal(getkey(), (5, 5)))
    params = {"a": jr.normal(getkey(), (3,)), "b": jr.normal(getkey(), (1, 2)), "n": 7}
    state = rule.init(params)
    flat = lambda tree: np.concatenate([np.ravel(tree["a"]), np.ravel(tree["b"])])  # noqa: E731
    before = now = flat(params)
    for rate in (0.1, 0.4, 0.1):
        grads = {"a": jr.normal(getkey(), (3,)), "b": jr.normal(getkey(), (1, 2)), "n": None}
        state, params = rule.step(state, params, grads)
        before, now = now, now - rate * np.asarray(rule.matrix) @ flat(grads) + 0.3 * (now - before)
        np.testing.assert_allclose(flat(params), now, rtol=2e-5, atol=1e-6)
    assert params["n"] == 7


def test_rates_can_be_learned():
    from metaopt.meta import ConstantHorizon, FinalLoss, MetaProblem, Unrolled, meta_train
    from metaopt.registry import adam
    from metaopt.schedules import Cosine

    family = Quadratics(4, condition=10.0, levels=2)
    # Zero after two steps. Its logarithm has no bottom there, so that where training ends would be chance.
    problem = MetaProblem(family, FinalLoss(), ConstantHorizon(2), tasks=16)
    learner = metaopt.Learner(PreconditionedDescent(2, learning_rate=(0.3, 3.0)))
    result = meta_train(
        learner, problem, estimator=Unrolled(), outer=Cosine(adam(0.1)), steps=1600, key=jr.key(0), progress=False
    )
    assert isinstance(result.learner.algorithm, PreconditionedDescent)
    rates = jnp.sort(jnp.exp(result.learner.algorithm.log_rates))
    np.testing.assert_allclose(rates, [0.5, 5.0], rtol=0.2)


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="must be at least 1"):
        PreconditionedDescent(0)
    with pytest.raises(ValueError, match="must be positive"):
        PreconditionedDescent(2, learning_rate=(0.1, -1.0))
    rule = PreconditionedDescent(2, size=3)
    with pytest.raises(ValueError, match="for 3 parameters, but 2 have a gradient"):
        jax.eval_shape(lambda x: rule.step(rule.init(x), x, x), jnp.ones(2))
