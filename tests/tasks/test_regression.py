"""Teachers and sine waves against their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from metaopt.tasks import Sinusoids, TeacherStudent


def test_teacher_is_its_own_best_student(getkey: Any) -> None:
    task = TeacherStudent().sample(key=getkey())
    value, grad = task.evaluate(task.teacher, key=getkey())
    assert value == 0 and not any(jnp.any(g) for g in jtu.tree_leaves(grad))
    assert task.measure(task.teacher, key=getkey()) == 0
    assert [layer["w"].shape for layer in task.teacher] == [(8, 16), (16, 4)]


@pytest.mark.slow
def test_loss_is_the_mean_squared_error_on_gaussian_inputs(getkey: Any, x64: None) -> None:
    """For linear networks the expected loss has a closed form."""
    task = TeacherStudent(sizes=(5, 3), batch_size=6).sample(key=getkey())
    params = task.init(key=getkey())
    difference = jtu.tree_map(lambda s, t: np.asarray(s - t), params[0], task.teacher[0])
    wanted = (np.sum(difference["w"] ** 2) + np.sum(difference["b"] ** 2)) / 3
    losses = jax.vmap(lambda key: task.loss(params, key=key))(jr.split(getkey(), 4000))
    np.testing.assert_allclose(jnp.mean(losses), wanted, rtol=0.05)
    large = TeacherStudent(sizes=(5, 3), evaluation_size=20_000).sample(key=jr.key(3))
    exact = sum(np.sum(np.asarray(x) ** 2) for x in jtu.tree_leaves(large.teacher)) / 3
    zero = jtu.tree_map(jnp.zeros_like, large.teacher)
    np.testing.assert_allclose(large.measure(zero, key=getkey()), exact, rtol=0.05)


def test_minibatches_are_fresh_and_the_evaluation_batch_is_not(getkey: Any) -> None:
    family = TeacherStudent()
    one, other = (family.sample(key=getkey()) for _ in range(2))
    params = one.init(key=getkey())
    assert one.loss(params, key=getkey()) != one.loss(params, key=getkey())
    assert one.measure(params, key=getkey()) == one.measure(params, key=getkey())
    swapped = type(one)(one.network, one.teacher, other.evaluation_key)
    assert one.measure(params, key=getkey()) != swapped.measure(params, key=getkey())


def test_scales(getkey: Any) -> None:
    task = TeacherStudent(sizes=(50, 60, 40), teacher_scale=3.0, start_scale=0.1).sample(key=getkey())
    student = task.init(key=getkey())
    for layer, fan_in in zip(task.teacher, (50, 60), strict=True):
        np.testing.assert_allclose(jnp.std(layer["w"]) * np.sqrt(fan_in), 3, rtol=0.1)
        np.testing.assert_allclose(jnp.std(layer["b"]), 3, rtol=0.5)
    for layer, fan_in in zip(student, (50, 60), strict=True):
        np.testing.assert_allclose(jnp.std(layer["w"]) * np.sqrt(fan_in), 0.1, rtol=0.1)
        assert not jnp.any(layer["b"])


def test_sinusoid_by_hand(getkey: Any, x64: None) -> None:
    task = Sinusoids(shots=6, queries=9, hidden=(4,)).sample(key=getkey())
    params = task.init(key=getkey())

    def error(points: jax.Array) -> float:
        x = np.asarray(points)[:, None]
        hidden = np.maximum(x @ np.asarray(params[0]["w"]) + np.asarray(params[0]["b"]), 0)
        outputs = hidden @ np.asarray(params[1]["w"]) + np.asarray(params[1]["b"])
        return float(np.mean((outputs - float(task.amplitude) * np.sin(x - float(task.phase))) ** 2))

    assert task.support.shape == (6,) and task.query.shape == (9,)
    np.testing.assert_allclose(task.loss(params, key=getkey()), error(task.support))
    np.testing.assert_allclose(task.measure(params, key=getkey()), error(task.query))


def test_sinusoids_have_the_published_distribution(getkey: Any) -> None:
    tasks = jax.vmap(lambda key: Sinusoids().sample(key=key))(jr.split(getkey(), 2000))
    ranges = {"amplitude": (0.1, 5.0), "phase": (0.0, np.pi), "support": (-5.0, 5.0), "query": (-5.0, 5.0)}
    for name, (low, high) in ranges.items():
        drawn = np.asarray(getattr(tasks, name))
        assert low <= drawn.min() and drawn.max() <= high
        np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.5, 0.75]), np.linspace(low, high, 5)[1:4], atol=0.3)
    assert not set(np.asarray(tasks.support[0]).tolist()) & set(np.asarray(tasks.query[0]).tolist())


def test_sinusoids_use_the_published_network(getkey: Any) -> None:
    params = Sinusoids().sample(key=getkey()).init(key=getkey())
    assert [layer["w"].shape for layer in params] == [(1, 40), (40, 40), (40, 1)]


def test_support_loss_has_no_chance_in_it(getkey: Any) -> None:
    task = Sinusoids().sample(key=getkey())
    params = task.init(key=getkey())
    assert task.loss(params, key=getkey()) == task.loss(params, key=getkey())
    assert task.loss(params, key=getkey()) != task.measure(params, key=getkey())


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_through_a_step_exist(order: int, getkey: Any, x64: None) -> None:
    """MAML differentiates the query loss through inner gradients."""
    task = Sinusoids(hidden=(5,)).sample(key=getkey())
    start = task.init(key=getkey())

    @jax.jit
    def query(rate: jax.Array) -> jax.Array:
        _, grads = task.evaluate(start, key=jr.key(0))
        grads = jax.lax.stop_gradient(grads) if order == 1 else grads
        return task.measure(jtu.tree_map(lambda p, g: p - rate * g, start, grads), key=jr.key(0))

    rate, step = jnp.asarray(0.01), 1e-7
    wanted = (query(rate + step) - query(rate - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(query))(rate), wanted, rtol=1e-4)
