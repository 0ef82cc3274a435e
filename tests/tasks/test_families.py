"""What every family promises: the contract of tasks, whatever they are about."""

import functools as ft
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
    ReducedBatch,
    Reparametrized,
    Rescaled,
    Rosenbrock,
    SingleTask,
    Sinusoids,
    SparseCoding,
    TeacherStudent,
)
from tests._cases import fast


REGISTRY = Registry.of(
    {
        AbstractTaskFamily: {
            "digits_conv": DigitsConv,
            "digits_mlp": DigitsMLP,
            "mnist1d": Mnist1D,
            "normalized": Normalized,
            "quadratics": Quadratics,
            "rastrigin": Rastrigin,
            "reduced_batch": ReducedBatch,
            "reparametrized": Reparametrized,
            "rescaled": Rescaled,
            "rosenbrock": Rosenbrock,
            "sinusoids": Sinusoids,
            "sparse_coding": SparseCoding,
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
    "teacher-student": {"name": "teacher_student", "sizes": [3, 5, 5, 2], "activation": "gelu"},
    "sinusoids": {"name": "sinusoids", "shots": 5, "hidden": [8, 8]},
    "sparse coding": {"name": "sparse_coding", "rows": 6, "columns": 9, "density": 0.5, "snr_db": 30},
    "digits": {"name": "digits_mlp", "hidden": [16, 8]},
    "held-out digits": {"name": "digits_mlp", "split": "held_out", "hidden": [], "batch_size": 5},
    "convolutional digits": {"name": "digits_conv", "channels": [4, 6], "batch_size": 8, "activation": "tanh"},
    "mnist1d": {"name": "mnist1d", "split": "held_out", "hidden": [12], "batch_size": 8},
    "normalized": {"name": "normalized", "inner": {"name": "rosenbrock", "dimension": 3}, "floor": -1, "starts": 3},
    "normalized digits": {"name": "normalized", "inner": {"name": "digits_mlp", "hidden": [4]}},
    "reparametrized": {"name": "reparametrized", "inner": {"name": "digits_mlp", "hidden": [4]}, "low": 0.3, "high": 3},
    "per tensor": {"name": "reparametrized", "inner": "teacher_student", "level": "tensor", "low": 0.1, "high": 10},
    "per parameter": {"name": "reparametrized", "inner": "rosenbrock", "level": "parameter", "low": 0.5, "high": 2},
    "rescaled": {"name": "rescaled", "inner": "rosenbrock", "low": 0.1, "high": 10},
    "reduced": {"name": "reduced_batch", "inner": {"name": "normalized", "inner": "teacher_student"}},
}
SOME = pytest.mark.parametrize(
    "name", fast(["rastrigin", "teacher-student", "sinusoids", "digits"], "rastrigin", "sinusoids")
)
# Their tasks start where nothing is drawn.
FIXED_STARTS = {"sparse_coding"}
CASES = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
# One of each kind of task, and each wrapper once.
FEW_CASES = pytest.mark.parametrize(
    "spec", fast(SPECS, "conditioned", "teacher-student", "convolutional digits", "per parameter", "reduced")
)
SOME_CASES = pytest.mark.parametrize(
    "spec",
    fast(
        SPECS,
        *("conditioned", "rastrigin", "teacher-student", "sparse coding", "convolutional digits"),
        *("per parameter", "rescaled", "reduced"),
    ),
)


def _family(spec: dict[str, Any]) -> AbstractTaskFamily:
    return build(spec, AbstractTaskFamily, registry=REGISTRY)


def _everything(family: AbstractTaskFamily, keys: jax.Array) -> Any:
    """All that one can ask a task, from four keys."""
    task = family.sample(key=keys[0])
    params = task.init(key=keys[1])
    value, signal = task.evaluate(params, key=keys[2])
    return params, value, signal, task.measure(params, key=keys[3])


_COMPILED: dict[str, Any] = {}


def _compiled(spec: dict[str, Any]) -> Any:
    """`_everything` of a family, compiled once for all tests."""
    name = str(spec)
    if name not in _COMPILED:
        _COMPILED[name] = jax.jit(ft.partial(_everything, _family(spec)))
    return _COMPILED[name]


def _close(one: Any, other: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    assert jtu.tree_structure(one) == jtu.tree_structure(other)
    for a, b in zip(jtu.tree_leaves(one), jtu.tree_leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@SOME_CASES
def test_shapes_and_dtypes(spec: dict[str, Any], getkey: Any) -> None:
    params, value, signal, measure = _compiled(spec)(jr.split(getkey(), 4))
    assert value.shape == measure.shape == ()
    assert value.dtype == measure.dtype == jnp.float32
    assert jtu.tree_structure(params) == jtu.tree_structure(signal)
    for p, s in zip(jtu.tree_leaves(params), jtu.tree_leaves(signal), strict=True):
        assert p.dtype == s.dtype == jnp.float32
        assert p.shape == s.shape
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jtu.tree_leaves((value, measure, signal)))


@SOME_CASES
def test_keys_decide_everything(spec: dict[str, Any], getkey: Any) -> None:
    ask, keys = _compiled(spec), jr.split(getkey(), 4)
    once = ask(keys)
    _close(once, ask(keys), rtol=0, atol=0)
    for index in range(1 if spec["name"] in FIXED_STARTS else 2):
        other = ask(keys.at[index].set(getkey()))
        assert once[1] != other[1] and once[3] != other[3]
    _close(once, ask(keys.at[3].set(getkey())), rtol=0, atol=0)


@SOME
def test_jit_changes_nothing(name: str, getkey: Any) -> None:
    keys = jr.split(getkey(), 4)
    _close(_compiled(SPECS[name])(keys), _everything(_family(SPECS[name]), keys))


@FEW_CASES
def test_a_batch_of_tasks_is_a_vmap(spec: dict[str, Any], getkey: Any) -> None:
    family, keys = _family(spec), jr.split(getkey(), (3, 4))
    batch = jax.jit(jax.vmap(ft.partial(_everything, family)))(keys)
    loop = [_compiled(spec)(some) for some in keys]
    _close(batch, jtu.tree_map(lambda *xs: jnp.stack(xs), *loop))


@pytest.mark.slow
@FEW_CASES
def test_double_precision(spec: dict[str, Any], getkey: Any, x64: None) -> None:
    family, keys = _family(spec), jr.split(getkey(), 4)

    @jax.jit
    def ask(keys: jax.Array) -> Any:
        task = family.sample(key=keys[0])
        params = task.init(key=keys[1])
        value, signal = task.evaluate(params, key=keys[2])
        # A random direction would cross the kinks of rectifiers; along the gradient a tiny step will do.
        square = sum(jnp.sum(jnp.square(g)) for g in jtu.tree_leaves(signal))
        step = 1e-6 / jnp.sqrt(square)

        def at(sign: jax.Array) -> jax.Array:
            moved = jtu.tree_map(lambda p, g: p + sign * step * g, params, signal)
            return task.evaluate(moved, key=keys[2])[0]

        ends = jax.vmap(at)(jnp.asarray([1.0, -1.0]))
        slope = (ends[0] - ends[1]) / (2 * step)
        return eqx.filter(task, eqx.is_inexact_array), params, value, signal, square, slope

    *found, square, slope = ask(keys)
    assert {x.dtype for x in jtu.tree_leaves(found)} == {jnp.dtype("float64")}
    assert square > 0
    np.testing.assert_allclose(slope, square, rtol=1e-4)


@pytest.mark.slow
@FEW_CASES
def test_parameters_of_low_precision(spec: dict[str, Any], getkey: Any) -> None:
    keys = jr.split(getkey(), 4)
    params, wanted, _, _ = _compiled(spec)(keys)
    low = jtu.tree_map(lambda x: x.astype(jnp.bfloat16), params)
    task = jax.jit(lambda key: _family(spec).sample(key=key))(keys[0])
    value, signal = jax.jit(lambda task, low: task.evaluate(low, key=keys[2]))(task, low)
    assert value.dtype == jnp.float32
    assert {x.dtype for x in jtu.tree_leaves(signal)} == {jnp.dtype(jnp.bfloat16)}
    assert abs(value - wanted) < 0.2 * wanted + 0.05


@CASES
def test_all_tasks_have_one_structure(spec: dict[str, Any], getkey: Any) -> None:
    family = _family(spec)
    one, other = (jtu.tree_flatten(eqx.filter_eval_shape(lambda k: family.sample(key=k), getkey())) for _ in range(2))
    assert one[1] == other[1]
    assert [(x.shape, x.dtype) for x in one[0]] == [(x.shape, x.dtype) for x in other[0]]


@CASES
def test_family_is_a_hashable_value(spec: dict[str, Any]) -> None:
    family, same = _family(spec), _family(spec)
    assert family == same and hash(family) == hash(same)
    assert family != Quadratics(dimension=2)
    assert jtu.tree_leaves(family) == []


def test_families_can_be_static_arguments(getkey: Any) -> None:
    traced = []

    def sample(family: AbstractTaskFamily, key: jax.Array) -> Any:
        traced.append(family)
        return family.sample(key=key)

    compiled = jax.jit(sample, static_argnums=0)
    for family in (Quadratics(3), Quadratics(3), DigitsMLP(), DigitsMLP(), DigitsMLP(split="held_out")):
        compiled(family, getkey())
    assert len(traced) == 3


@CASES
def test_spec_round_trip(spec: dict[str, Any]) -> None:
    full = normalize(spec, AbstractTaskFamily, registry=REGISTRY)
    assert full.items() >= {key: value for key, value in spec.items() if key != "inner"}.items()
    assert _family(full) == _family(spec)


@FEW_CASES
def test_dry_run(spec: dict[str, Any], getkey: Any) -> None:
    check(from_optax(optax.adam, learning_rate=0.03), task=_family(spec).sample(key=getkey()))


@SOME
def test_adam_makes_progress(name: str, getkey: Any) -> None:
    family = _family(SPECS[name])
    learner = Learner(from_optax(optax.adam, learning_rate=0.03))

    @jax.jit
    def values(key: jax.Array) -> jax.Array:
        return unroll(learner, family.sample(key=key), steps=200, key=key).values

    seen = values(getkey())
    assert jnp.mean(seen[-20:]) < 0.9 * jnp.mean(seen[:5])


def test_single_task_is_a_family(getkey: Any) -> None:
    task = Rosenbrock().sample(key=getkey())
    assert SingleTask(task).sample(key=getkey()) is task
