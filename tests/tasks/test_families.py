"""What every family promises: the contract of tasks, whatever they are about."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

from metaopt import Learner, check, from_optax, unroll
from metaopt.spec import Registry, build, normalize
from metaopt.tasks import (
    AbstractTaskFamily,
    DigitsConv,
    DigitsMLP,
    Mnist1D,
    Normalized,
    Quadratics,
    Rastrigin,
    Rosenbrock,
    SingleTask,
    Sinusoids,
    TeacherStudent,
)


REGISTRY = Registry.of(
    {
        AbstractTaskFamily: {
            "digits_conv": DigitsConv,
            "digits_mlp": DigitsMLP,
            "mnist1d": Mnist1D,
            "normalized": Normalized,
            "quadratics": Quadratics,
            "rastrigin": Rastrigin,
            "rosenbrock": Rosenbrock,
            "sinusoids": Sinusoids,
            "teacher_student": TeacherStudent,
        }
    }
)
SPECS: dict[str, dict[str, Any]] = {
    "quadratics": {"name": "quadratics"},
    "conditioned": {"name": "quadratics", "dimension": 6, "condition": 100},
    "shared basis": {"name": "quadratics", "dimension": 3, "condition": 10, "shared_basis": True},
    "rosenbrock": {"name": "rosenbrock", "dimension": 4},
    "rastrigin": {"name": "rastrigin", "dimension": 4, "amplitude": 3},
    "teacher-student": {"name": "teacher_student"},
    "deep teacher": {"name": "teacher_student", "sizes": [3, 5, 5, 2], "activation": "gelu", "batch_size": 7},
    "sinusoids": {"name": "sinusoids", "shots": 5, "hidden": [8, 8]},
    "digits": {"name": "digits_mlp"},
    "held-out digits": {"name": "digits_mlp", "split": "held_out", "hidden": [16, 8], "batch_size": 5},
    "linear digits": {"name": "digits_mlp", "hidden": [], "activation": "tanh"},
    "convolutional digits": {"name": "digits_conv", "channels": [4, 6], "batch_size": 8},
    "mnist1d": {"name": "mnist1d", "split": "held_out", "hidden": [12], "batch_size": 8},
    "normalized": {"name": "normalized", "inner": {"name": "rosenbrock", "dimension": 3}, "floor": -1, "starts": 3},
    "normalized digits": {"name": "normalized", "inner": {"name": "digits_mlp", "hidden": [4]}},
}
CASES = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def _family(spec: dict[str, Any]) -> AbstractTaskFamily:
    return build(spec, AbstractTaskFamily, registry=REGISTRY)


def _everything(family: AbstractTaskFamily, key: jax.Array) -> Any:
    """All that one can ask a task, from one key."""
    keys = jr.split(key, 4)
    task = family.sample(key=keys[0])
    params = task.init(key=keys[1])
    value, signal = task.evaluate(params, key=keys[2])
    return params, value, signal, task.measure(params, key=keys[3])


def _close(one: Any, other: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    assert jtu.tree_structure(one) == jtu.tree_structure(other)
    for a, b in zip(jtu.tree_leaves(one), jtu.tree_leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@CASES
def test_shapes_and_dtypes(spec: dict[str, Any], getkey: Any) -> None:
    params, value, signal, measure = _everything(_family(spec), getkey())
    assert value.shape == measure.shape == ()
    assert value.dtype == measure.dtype == jnp.float32
    assert jtu.tree_structure(params) == jtu.tree_structure(signal)
    for p, s in zip(jtu.tree_leaves(params), jtu.tree_leaves(signal), strict=True):
        assert p.dtype == s.dtype == jnp.float32
        assert p.shape == s.shape
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jtu.tree_leaves((value, measure, signal)))


@CASES
def test_double_precision(spec: dict[str, Any], getkey: Any, x64: None) -> None:
    key = getkey()
    family = _family(spec)
    found = jtu.tree_leaves(_everything(family, key))
    assert {x.dtype for x in found} == {jnp.dtype("float64")}
    inexact = jtu.tree_leaves(eqx.filter(family.sample(key=key), eqx.is_inexact_array))
    assert {x.dtype for x in inexact} <= {jnp.dtype("float64")}


@CASES
def test_parameters_of_low_precision(spec: dict[str, Any], getkey: Any) -> None:
    task = _family(spec).sample(key=getkey())
    params = task.init(key=getkey())
    low = jtu.tree_map(lambda x: x.astype(jnp.bfloat16), params)
    key = getkey()
    (value, signal), (wanted, _) = task.evaluate(low, key=key), task.evaluate(params, key=key)
    assert value.dtype == jnp.float32
    assert {x.dtype for x in jtu.tree_leaves(signal)} == {jnp.dtype(jnp.bfloat16)}
    assert abs(value - wanted) < 0.2 * wanted + 0.05


@CASES
def test_signal_is_the_gradient(spec: dict[str, Any], getkey: Any, x64: None) -> None:
    task = _family(spec).sample(key=getkey())
    params = task.init(key=getkey())
    # A random direction would cross the kinks of rectifiers; along the gradient a tiny step will do.
    key = getkey()
    _, signal = task.evaluate(params, key=key)
    square = sum(jnp.sum(jnp.square(g)) for g in jtu.tree_leaves(signal))
    step = 1e-6 / jnp.sqrt(square)

    def at(sign: float) -> jax.Array:
        return task.evaluate(jtu.tree_map(lambda p, g: p + sign * step * g, params, signal), key=key)[0]

    assert square > 0
    np.testing.assert_allclose((at(1.0) - at(-1.0)) / (2 * step), square, rtol=1e-4)


@CASES
def test_all_tasks_have_one_structure(spec: dict[str, Any], getkey: Any) -> None:
    family = _family(spec)
    one, other = (jtu.tree_flatten(eqx.filter_eval_shape(lambda k: family.sample(key=k), getkey())) for _ in range(2))
    assert one[1] == other[1]
    assert [(x.shape, x.dtype) for x in one[0]] == [(x.shape, x.dtype) for x in other[0]]


@CASES
def test_a_batch_of_tasks_is_a_vmap(spec: dict[str, Any], getkey: Any) -> None:
    family = _family(spec)
    keys = jr.split(getkey(), 3)
    batch = jax.jit(jax.vmap(lambda k: _everything(family, k)))(keys)
    loop = [_everything(family, key) for key in keys]
    _close(batch, jtu.tree_map(lambda *xs: jnp.stack(xs), *loop))


@CASES
def test_sampled_batch_can_be_passed_on(spec: dict[str, Any], getkey: Any) -> None:
    family = _family(spec)
    keys = jr.split(getkey(), 3)
    tasks = jax.jit(jax.vmap(lambda k: family.sample(key=k)))(keys)
    params = jax.vmap(lambda task, key: task.init(key=key))(tasks, keys)
    values, _ = jax.vmap(lambda task, p, key: task.evaluate(p, key=key))(tasks, params, keys)
    second = jtu.tree_map(lambda x: x[1], (tasks, params))
    _close(values[1], second[0].evaluate(second[1], key=keys[1])[0])


@CASES
def test_keys_decide_everything(spec: dict[str, Any], getkey: Any) -> None:
    family, key = _family(spec), getkey()
    once, again, other = (_everything(family, k) for k in (key, key, getkey()))
    _close(once, again, rtol=0, atol=0)
    assert once[1] != other[1] and once[3] != other[3]


@CASES
def test_measure_is_no_matter_of_chance(spec: dict[str, Any], getkey: Any) -> None:
    task = _family(spec).sample(key=getkey())
    params = task.init(key=getkey())
    assert task.measure(params, key=getkey()) == task.measure(params, key=getkey())


@CASES
def test_family_is_a_hashable_value(spec: dict[str, Any], getkey: Any) -> None:
    family, same = _family(spec), _family(spec)
    assert family == same and hash(family) == hash(same)
    assert family != Quadratics(dimension=2)
    assert jtu.tree_leaves(family) == []
    key = getkey()
    traced = []

    def sample(family: AbstractTaskFamily, key: jax.Array) -> jax.Array:
        traced.append(family)
        return _everything(family, key)[1]

    compiled = jax.jit(sample, static_argnums=0)
    assert compiled(family, key) == compiled(same, key)
    assert len(traced) == 1


@CASES
def test_spec_round_trip(spec: dict[str, Any]) -> None:
    full = normalize(spec, AbstractTaskFamily, registry=REGISTRY)
    assert full.items() >= {key: value for key, value in spec.items() if key != "inner"}.items()
    assert _family(full) == _family(spec)


@CASES
def test_algorithms_run_on_it(spec: dict[str, Any], getkey: Any) -> None:
    task = _family(spec).sample(key=getkey())
    algorithm = from_optax(optax.adam, learning_rate=0.03)
    check(algorithm, task=task)
    key = getkey()
    end = jax.jit(lambda key: unroll(Learner(algorithm), task, steps=200, key=key).params)(key)
    start = task.init(key=jr.split(key, 3)[0])
    assert task.measure(end, key=key) < 0.9 * task.measure(start, key=key)


def test_single_task_is_a_family(getkey: Any) -> None:
    task = Rosenbrock().sample(key=getkey())
    assert SingleTask(task).sample(key=getkey()) is task
