"""Meta-gradients against closed forms, finite differences and each other."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import metaopt
from metaopt import fewshot
from metaopt.fewshot import ANIL, FOMAML, IMAML, MAML, AbstractMethod, MetaSGD, Reptile, TrajectoryMeta
from metaopt.meta import Implicit, Proximal, TaskParallel, Unrolled
from metaopt.sharding import make_mesh
from tests._cases import slow

from .problems import LinearRegression, LinearRegressions, Slopes, wave


def sgd(rate: float) -> metaopt.AbstractAlgorithm:
    return metaopt.from_optax(optax.sgd, learning_rate=rate)


def meta_gradient(setup: fewshot.Setup, seed: int = 1) -> Any:
    @eqx.filter_jit
    def estimate(setup: fewshot.Setup) -> Any:
        state = setup.estimator.init(setup.learner, setup.problem, key=jr.key(0))
        return setup.estimator.estimate(state, setup.learner, setup.problem, key=jr.key(seed))[1].grads

    return estimate(setup)


def query_loss(learner: metaopt.Learner, family: metaopt.SingleTask, steps: int) -> Any:
    adapted = fewshot.adapt(learner, family.task, steps=steps, key=jr.key(0)).params
    return family.task.measure(adapted, key=jr.key(0))


def moments(rows: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    rows, targets = np.asarray(rows), np.asarray(targets)
    return rows.T @ rows / len(rows), rows.T @ targets / len(rows)


@pytest.mark.parametrize("method", [MAML, FOMAML])
def test_closed_form_of_linear_regression(method: Any, x64: None) -> None:
    r"""One step is $w \mapsto (I - a A) w + a b$, so the gradient is $((I - a A)^k)^T (A_q w_k - b_q)$."""
    rate, steps = 0.2, 4
    task = LinearRegressions().sample(key=jr.key(3))
    setup = method(sgd(rate), steps=steps, tasks=2).setup(metaopt.SingleTask(task), key=jr.key(4))
    assert isinstance(task, LinearRegression)
    curvature, pull = moments(task.support, task.support_targets)
    query_curvature, query_pull = moments(task.query, task.query_targets)
    step = np.eye(3) - rate * curvature
    w = np.asarray(setup.learner.initial)
    for _ in range(steps):
        w = step @ w + rate * pull
    wanted = query_curvature @ w - query_pull
    if method is MAML:
        wanted = np.linalg.matrix_power(step, steps).T @ wanted
    np.testing.assert_allclose(meta_gradient(setup).initial, wanted, rtol=1e-10)


@pytest.mark.slow
def test_the_mean_is_over_tasks(x64: None) -> None:
    family = LinearRegressions()
    setup = MAML(sgd(0.2), steps=2, tasks=3).setup(family, key=jr.key(4))
    found = meta_gradient(setup).initial
    singly = MAML(sgd(0.2), steps=2, tasks=3, batch_size=1).setup(family, key=jr.key(4))
    np.testing.assert_allclose(meta_gradient(singly).initial, found, rtol=1e-10)
    assert not np.allclose(meta_gradient(setup, seed=2).initial, found)


@pytest.mark.parametrize("inner", [*slow(sgd(0.05)), metaopt.from_optax(optax.adam, learning_rate=0.05, b1=0.0)])
def test_maml_is_the_derivative(inner: metaopt.AbstractAlgorithm, x64: None) -> None:
    family, steps = wave(), 3
    inner = jtu.tree_map(lambda x: jnp.asarray(x, jnp.float64), inner)
    setup = MAML(inner, steps=steps, tasks=1).setup(family, key=jr.key(0))
    flat, unravel = ravel_pytree(setup.learner.initial)
    direction = jr.normal(jr.key(1), flat.shape)

    @jax.jit
    def value(shift: Any) -> Any:
        initial = unravel(flat + shift * direction)
        return query_loss(metaopt.Learner(setup.learner.algorithm, initial), family, steps)

    difference = (value(1e-6) - value(-1e-6)) / 2e-6
    slope = ravel_pytree(meta_gradient(setup).initial)[0] @ direction
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.mark.parametrize("method", [MetaSGD(steps=3, tasks=1), TrajectoryMeta(length=3, tasks=1, regularization=0.0)])
def test_rates_are_trained(method: AbstractMethod, x64: None) -> None:
    family = wave()
    setup = method.setup(family, key=jr.key(0))
    flat, unravel = ravel_pytree(setup.learner)
    direction = jr.normal(jr.key(1), flat.shape)

    @jax.jit
    def value(shift: Any) -> Any:
        learner = unravel(flat + shift * direction)
        if isinstance(method, MetaSGD):
            return query_loss(learner, family, 3)
        trajectory = fewshot.adapt(learner, family.task, steps=4, key=jr.key(0))
        return jnp.mean(trajectory.values[1:])

    difference = (value(1e-6) - value(-1e-6)) / 2e-6
    slope = ravel_pytree(meta_gradient(setup))[0] @ direction
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.mark.slow
def test_first_order_is_exact_where_nothing_is_curved(x64: None) -> None:
    full, first = (m(sgd(0.1), steps=3, tasks=4).setup(Slopes(), key=jr.key(0)) for m in (MAML, FOMAML))
    np.testing.assert_allclose(meta_gradient(first).initial, meta_gradient(full).initial, rtol=1e-12)
    full, first = (m(sgd(0.1), steps=3, tasks=4).setup(LinearRegressions(), key=jr.key(0)) for m in (MAML, FOMAML))
    assert not np.allclose(meta_gradient(first).initial, meta_gradient(full).initial, rtol=0.01)


def test_reptile_is_its_expansion(x64: None) -> None:
    r"""$\mathbb{E}[\phi - \theta_k] / a = k \, \mathbb{E}[g] - \frac{k (k-1)}{2} a \, \mathbb{E}[H g] + O(a^2)$."""
    steps, families = 4, [wave(0), wave(1)]
    initial = MAML().setup(families[0], key=jr.key(0)).learner.initial
    flat, unravel = ravel_pytree(initial)

    def support_loss(family: metaopt.SingleTask, flat: Any) -> Any:
        return family.task.evaluate(unravel(flat), key=jr.key(0))[0]

    def curved(family: metaopt.SingleTask) -> Any:
        grad = jax.grad(lambda x: support_loss(family, x))
        return jax.jvp(grad, (flat,), (grad(flat),))

    firsts, seconds = (sum(x) / 2 for x in zip(*map(curved, families), strict=True))

    def remainder(rate: float) -> float:
        setups = [Reptile(sgd(rate), steps=steps, tasks=1).setup(f, key=jr.key(0)) for f in families]
        setups = [eqx.tree_at(lambda s: s.learner.initial, s, initial) for s in setups]
        found = sum(ravel_pytree(meta_gradient(s).initial)[0] for s in setups) / (2 * rate)
        wanted = steps * firsts - steps * (steps - 1) / 2 * rate * seconds
        return float(jnp.linalg.norm(found - wanted))

    # Halving the rate divides a remainder of second order by four.
    np.testing.assert_allclose(remainder(1e-3) / remainder(5e-4), 4.0, rtol=0.05)
    assert remainder(1e-3) < 1e-3 * float(jnp.linalg.norm(seconds))


@pytest.mark.slow
def test_reptile_with_adam_without_momentum(x64: None) -> None:
    family = wave()
    setup = Reptile(steps=1, tasks=1).setup(family, key=jr.key(0))
    _, grads = family.task.evaluate(setup.learner.initial, key=jr.key(0))
    moved = meta_gradient(setup).initial
    for step, grad in zip(jtu.tree_leaves(moved), jtu.tree_leaves(grads), strict=True):
        np.testing.assert_allclose(step, 0.01 * np.sign(grad), rtol=1e-5)
    longer = meta_gradient(Reptile(steps=8, tasks=1).setup(family, key=jr.key(0))).initial
    assert optax.tree.norm(longer) > 3 * optax.tree.norm(moved)


def imaml(steps: int, rate: float = 0.1, strength: float = 2.0, **options: Any) -> IMAML:
    return IMAML(sgd(rate), strength, steps=steps, tasks=1, **options)


def test_implicit_gradient_is_that_of_a_long_unroll(x64: None) -> None:
    setup = imaml(400, tolerance=1e-10, max_steps=50).setup(wave(), key=jr.key(0))
    implicit = ravel_pytree(meta_gradient(setup).initial)[0]
    unrolled = ravel_pytree(meta_gradient(fewshot.Setup(setup.learner, setup.problem, Unrolled())).initial)[0]
    cosine = implicit @ unrolled / jnp.linalg.norm(implicit) / jnp.linalg.norm(unrolled)
    assert cosine >= 0.999
    np.testing.assert_allclose(implicit, unrolled, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_implicit_gradient_of_the_strength(x64: None) -> None:
    family = wave()
    setup = imaml(400, tolerance=1e-10, max_steps=50).setup(family, key=jr.key(0))
    problem = dataclasses.replace(setup.problem, trainable=None)
    setup = fewshot.Setup(setup.learner, problem, setup.estimator)

    @jax.jit
    def value(strength: Any) -> Any:
        learner = eqx.tree_at(lambda x: x.algorithm.strength, setup.learner, strength)
        return query_loss(learner, family, 400)

    difference = (value(2.0 + 1e-5) - value(2.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(meta_gradient(setup).algorithm.strength, difference, rtol=1e-4)


@pytest.mark.slow
def test_conjugate_gradients_stop_where_they_are_told_to(x64: None) -> None:
    exact, cut = (
        ravel_pytree(meta_gradient(imaml(300, max_steps=n, tolerance=1e-9).setup(wave(), key=jr.key(0))).initial)[0]
        for n in (60, 1)
    )
    assert 1e-4 < jnp.linalg.norm(exact - cut) / jnp.linalg.norm(exact) < 0.9


@pytest.mark.slow
def test_memory_of_the_implicit_gradient_is_flat_in_steps() -> None:
    def bytes_needed(steps: int, estimator: Any) -> int:
        setup = imaml(steps).setup(wave(width=32), key=jr.key(0))
        learner, static = eqx.partition(setup.learner, eqx.is_array)

        def estimate(learner: Any) -> Any:
            return estimator.estimate(None, eqx.combine(learner, static), setup.problem, key=jr.key(0))[1].grads.initial

        analysis = jax.jit(estimate).lower(learner).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    short, long = (bytes_needed(steps, Implicit()) for steps in (10, 1000))
    # Only the values are kept, to report their mean.
    assert long - short <= 4 * 1000 * 4
    assert bytes_needed(1000, Unrolled()) > 20 * long


@pytest.mark.parametrize("method", [MAML(sgd(0.1), 3, 8), *slow(Reptile(sgd(0.1), 3, 8), IMAML(sgd(0.1), 5.0, 20, 8))])
def test_spread_over_devices(method: AbstractMethod) -> None:
    setup = method.setup(LinearRegressions(), key=jr.key(0))
    spread = fewshot.Setup(setup.learner, setup.problem, TaskParallel(setup.estimator, make_mesh(tasks=4)))
    np.testing.assert_allclose(meta_gradient(spread).initial, meta_gradient(setup).initial, rtol=1e-4)


@pytest.mark.slow
def test_recomputing_changes_nothing(x64: None) -> None:
    stored, again = (MAML(sgd(0.05), 3, 2, remat=r).setup(wave(), key=jr.key(0)) for r in (False, True))
    for a, b in zip(jtu.tree_leaves(meta_gradient(stored)), jtu.tree_leaves(meta_gradient(again)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_body_that_does_not_adapt_is_learned() -> None:
    family = wave()
    setup = ANIL("1/*", sgd(0.05), steps=3, tasks=1).setup(family, key=jr.key(0))
    adapted = fewshot.adapt(setup.learner, family.task, steps=3, key=jr.key(0)).params
    body, head = adapted
    assert eqx.tree_equal(body, setup.learner.initial[0])
    assert not any(np.array_equal(head[k], setup.learner.initial[1][k]) for k in ("w", "b"))
    grads = meta_gradient(setup).initial
    assert all(jnp.any(g) for g in jtu.tree_leaves(grads))


def test_diverged_tasks_are_left_out() -> None:
    setup = imaml(50, rate=1e30).setup(wave(), key=jr.key(0))
    assert not jnp.any(ravel_pytree(meta_gradient(setup).initial)[0])
    reptile = Reptile(sgd(1e30), steps=50, tasks=2).setup(wave(), key=jr.key(0))
    assert not jnp.any(ravel_pytree(meta_gradient(reptile).initial)[0])


def test_estimators_say_what_they_need() -> None:
    setup = MAML(sgd(0.1), tasks=1).setup(wave(), key=jr.key(0))
    with pytest.raises(TypeError, match=r"the algorithm is a `Optax`. Wrap it: `metaopt.meta.Proximal"):
        Implicit().init(setup.learner, setup.problem, key=jr.key(0))
    proximal = metaopt.Learner(Proximal(sgd(0.1)))
    with pytest.raises(ValueError, match="the learner has none"):
        Implicit().init(proximal, setup.problem, key=jr.key(0))
    trajectory = TrajectoryMeta(length=2, tasks=1).setup(wave(), key=jr.key(0))
    learner = metaopt.Learner(Proximal(sgd(0.1)), trajectory.learner.initial)
    with pytest.raises(TypeError, match="the objective is a `MeanLoss`"):
        Implicit().init(learner, trajectory.problem, key=jr.key(0))
    for name, wrong in (("tolerance", lambda: Implicit(tolerance=0.0)), ("max_steps", lambda: Implicit(max_steps=0))):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            wrong()
    displacement = metaopt.meta.Displacement()
    with pytest.raises(ValueError, match="leaves of the algorithm are to be, too"):
        displacement.init(trajectory.learner, trajectory.problem, key=jr.key(0))
    with pytest.raises(ValueError, match="the learner has no `initial`"):
        displacement.init(metaopt.Learner(sgd(0.1)), trajectory.problem, key=jr.key(0))
