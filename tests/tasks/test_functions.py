"""Closed forms: values, gradients, spectra and minimizers of the analytic families."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

from metaopt.tasks import Quadratics, Rastrigin, RastriginTask, Rosenbrock, RosenbrockTask


FAMILIES = [Quadratics(5), Quadratics(5, condition=50.0), Rosenbrock(5), Rastrigin(5)]
CASES = pytest.mark.parametrize("family", FAMILIES, ids=repr)


@CASES
def test_minimizer(family: Any, getkey: Any, x64: None) -> None:
    @jax.jit
    def at_minimum(key: jax.Array) -> Any:
        task = family.sample(key=key)
        best = task.minimizer()
        return *task.evaluate(best, key=key), jax.hessian(lambda p: task.loss(p, key=key))(best)

    value, grad, hessian = at_minimum(getkey())
    np.testing.assert_allclose(value, 0, atol=1e-20)
    np.testing.assert_allclose(grad, np.zeros(5), atol=1e-8)
    assert np.linalg.eigvalsh(hessian)[0] > 0


@CASES
def test_starts_are_standard_normal(family: Any, getkey: Any) -> None:
    task = family.sample(key=getkey())
    starts = jax.vmap(lambda key: task.init(key=key))(jr.split(getkey(), 4000))
    np.testing.assert_allclose(jnp.mean(starts, axis=0), np.zeros(5), atol=0.1)
    np.testing.assert_allclose(np.cov(starts.T), np.eye(5), atol=0.12)


@pytest.mark.parametrize("condition", [None, 20.0])
def test_quadratic_by_hand(condition: float | None, getkey: Any, x64: None) -> None:
    task = Quadratics(4, condition=condition).sample(key=getkey())
    params = task.init(key=getkey())
    w, y, theta = (np.asarray(x) for x in (task.matrix, task.target, params))
    value, grad = task.evaluate(params, key=getkey())
    residual = [sum(w[i, j] * theta[j] for j in range(4)) - y[i] for i in range(4)]
    np.testing.assert_allclose(value, sum(r * r for r in residual))
    np.testing.assert_allclose(grad, 2 * w.T @ (w @ theta - y))
    assert task.measure(params, key=getkey()) == value


@pytest.mark.slow
def test_plain_quadratics_have_normal_entries(getkey: Any) -> None:
    tasks = jax.vmap(lambda key: Quadratics(10).sample(key=key))(jr.split(getkey(), 200))
    for entries in (tasks.matrix, tasks.target):
        np.testing.assert_allclose([jnp.mean(entries), jnp.std(entries)], [0, 1], atol=0.06)


def test_condition_is_that_of_the_hessian(getkey: Any, x64: None) -> None:
    task = Quadratics(6, condition=1e4).sample(key=getkey())
    hessian = jax.hessian(lambda p: task.loss(p, key=jr.key(0)))(jnp.zeros(6))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), 2 * np.logspace(-4, 0, 6), rtol=1e-6)
    np.testing.assert_allclose(task.matrix, task.matrix.T, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_basis_is_shared_when_asked(shared: bool, getkey: Any) -> None:
    family = Quadratics(4, condition=10.0, shared_basis=shared)
    one, other = (family.sample(key=getkey()) for _ in range(2))
    assert bool(jnp.all(one.matrix == other.matrix)) is shared
    assert not jnp.allclose(one.target, other.target)


def test_rosenbrock_is_the_textbook_one_up_to_its_position(getkey: Any, x64: None) -> None:
    params = jr.normal(getkey(), (5,))
    plain = RosenbrockTask(jnp.eye(5), jnp.zeros(5), jnp.asarray(100.0))
    value, grad = plain.evaluate(params, key=getkey())
    np.testing.assert_allclose(value, scipy.optimize.rosen(np.asarray(params)))
    np.testing.assert_allclose(grad, scipy.optimize.rosen_der(np.asarray(params)))
    task = Rosenbrock(5, smallest=100.0, largest=100.0).sample(key=getkey())
    moved = task.rotation @ (params - task.shift)
    np.testing.assert_allclose(task.loss(params, key=getkey()), scipy.optimize.rosen(np.asarray(moved)))


@pytest.mark.slow
def test_rosenbrock_coefficients_are_log_uniform(getkey: Any) -> None:
    family = Rosenbrock(2, smallest=0.1, largest=1000.0)
    tasks = jax.vmap(lambda key: family.sample(key=key))(jr.split(getkey(), 2000))
    decades = jnp.log10(tasks.coefficient)
    assert jnp.all((decades >= -1 - 1e-5) & (decades <= 3 + 1e-5))
    np.testing.assert_allclose(jnp.quantile(decades, jnp.asarray([0.25, 0.5, 0.75])), [0, 1, 2], atol=0.2)


def test_rastrigin_is_the_textbook_one_up_to_its_position(getkey: Any, x64: None) -> None:
    def textbook(x: np.ndarray) -> float:
        return 10 * len(x) + sum(xi**2 - 10 * np.cos(2 * np.pi * xi) for xi in x)

    params = np.asarray(jr.normal(getkey(), (4,)))
    amplitudes = jnp.full(4, 10.0)
    plain = RastriginTask(jnp.eye(4), jnp.zeros(4), amplitudes)
    value, grad = plain.evaluate(jnp.asarray(params), key=getkey())
    np.testing.assert_allclose(value, textbook(params))
    np.testing.assert_allclose(grad, 2 * params + 20 * np.pi * np.sin(2 * np.pi * params))
    task = Rastrigin(4).sample(key=getkey())
    placed = RastriginTask(task.rotation, task.shift, amplitudes)
    moved = np.asarray(task.rotation) @ (params - np.asarray(task.shift))
    np.testing.assert_allclose(placed.loss(jnp.asarray(params), key=getkey()), textbook(moved))


def test_rastrigin_amplitudes(getkey: Any) -> None:
    tasks = jax.vmap(lambda key: Rastrigin(10, amplitude=3.0).sample(key=key))(jr.split(getkey(), 500))
    assert jnp.all(tasks.amplitudes >= 0)
    np.testing.assert_allclose(jnp.mean(tasks.amplitudes), 3 * np.sqrt(2 / np.pi), rtol=0.05)


@pytest.mark.parametrize("family", [Rosenbrock(3), Rastrigin(3)], ids=repr)
def test_rotations_are_orthogonal_and_uniform(family: Any, getkey: Any) -> None:
    tasks = jax.vmap(lambda key: family.sample(key=key))(jr.split(getkey(), 4000))
    q = np.asarray(tasks.rotation)
    np.testing.assert_allclose(q @ q.transpose(0, 2, 1), np.broadcast_to(np.eye(3), q.shape), atol=1e-5)
    # Each column is uniform on the sphere: mean zero, second moment a third of the identity.
    np.testing.assert_allclose(q.mean(0), np.zeros((3, 3)), atol=0.05)
    np.testing.assert_allclose(
        np.einsum("nij,nkj->jik", q, q) / len(q), np.broadcast_to(np.eye(3) / 3, (3, 3, 3)), atol=0.05
    )
