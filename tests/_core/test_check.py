"""The dry run names what fails."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import metaopt

from .problems import Descent, Noisy


class Custom(metaopt.AbstractAlgorithm[Any, Any, Any]):
    """An algorithm made of two functions."""

    start: Callable[[Any], Any]
    improve: Callable[[Any, Any, Any], tuple[Any, Any]]

    def init(self, params: Any, *, key: Any = None) -> Any:
        del key
        return self.start(params)

    def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> tuple[Any, Any]:
        del value
        return self.improve(state, params, grads)


class Broken(metaopt.AbstractTask[Any, Any]):
    """Fails at one stage."""

    stage: str

    def init(self, *, key: Any) -> Any:
        if self.stage == "init":
            raise KeyError("no data")
        return jnp.ones(2)

    def evaluate(self, params: Any, *, key: Any) -> tuple[Any, Any]:
        if self.stage == "evaluate":
            return jnp.sum(params @ jnp.ones((3, 3))), params
        return jnp.sum(params), jnp.ones(3)

    def measure(self, params: Any, *, key: Any) -> Any:
        return jnp.sum(params)


def _keep(state: Any, params: Any, grads: Any) -> tuple[Any, Any]:
    return state, params


def _fail(*_: Any) -> Any:
    raise RuntimeError("out of order")


FAULTS: dict[str, tuple[Custom, str]] = {
    "init": (Custom(_fail, _keep), "`algorithm.init` failed: RuntimeError: out of order"),
    "step": (Custom(lambda p: (), _fail), "`algorithm.step` failed: RuntimeError: out of order"),
    "concrete": (
        Custom(lambda p: (), lambda s, p, g: (s, p if float(p["w"][0]) > 0 else g)),
        "`algorithm.step` failed: ConcretizationTypeError|`algorithm.step` failed: TracerError",
    ),
    "params dtype": (
        Custom(lambda p: (), lambda s, p, g: (s, p | {"w": p["w"].astype(jnp.float16)})),
        r"`algorithm.step` changed `params\['w'\]` from float32\[3\] to float16\[3\]",
    ),
    "params shape": (
        Custom(lambda p: (), lambda s, p, g: (s, p | {"w": p["w"][:2]})),
        r"`algorithm.step` changed `params\['w'\]` from float32\[3\] to float32\[2\]",
    ),
    "params structure": (
        Custom(lambda p: (), lambda s, p, g: (s, {"w": p["w"]})),
        "`algorithm.step` changed the structure of `params`",
    ),
    "params to a number": (
        Custom(lambda p: (), lambda s, p, g: (s, p | {"w": 0.0})),
        r"`algorithm.step` changed `params\['w'\]` from float32\[3\] to a `float`",
    ),
    "missing gradient": (
        Custom(lambda p: (), lambda s, p, g: (s, p | {"w": p["w"] - 0.1 * g["w"]})),
        r"`algorithm.step` fails where the gradient of `params\['w'\]` is `None`, which says that it is not trained",
    ),
    "state dtype": (
        Custom(lambda p: jnp.zeros((), jnp.int32), lambda s, p, g: (s.astype(jnp.float32), p)),
        r"`algorithm.step` changed `state` from int32\[\] to float32\[\]",
    ),
    "state grows": (
        Custom(lambda p: [jnp.zeros(1)], lambda s, p, g: (s + [jnp.zeros(1)], p)),
        "`algorithm.step` changed the structure of `state`",
    ),
    "state from a number": (
        Custom(lambda p: 0.0, lambda s, p, g: (jnp.zeros(()), p)),
        r"`algorithm.step` changed `state` from a `float` to float32\[\]",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_an_algorithm_are_named(name: str) -> None:
    algorithm, message = FAULTS[name]
    with pytest.raises(metaopt.CheckError, match=message):
        metaopt.check(algorithm, {"w": jnp.ones(3), "name": "layer"})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("init", "`task.init` failed: KeyError: 'no data'"),
        ("evaluate", "`task.evaluate` failed: TypeError: dot_general"),
        ("signal", r"`algorithm.step` failed: ValueError: The gradient of `params` has shape \(3,\)"),
    ],
)
def test_faults_of_a_task_are_named(stage: str, message: str) -> None:
    algorithm = metaopt.from_optax(optax.sgd, learning_rate=0.1)
    with pytest.raises(metaopt.CheckError, match=message):
        metaopt.check(algorithm, task=Broken(stage))


def test_wrong_gradients_are_named() -> None:
    algorithm = metaopt.from_optax(optax.sgd, learning_rate=0.1)
    with pytest.raises(metaopt.CheckError, match=r"No gradient for: `params\['b'\]`"):
        metaopt.check(algorithm, {"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": jnp.ones(1)})


def test_something_must_be_given() -> None:
    with pytest.raises(metaopt.CheckError, match="needs `params` or a `task`"):
        metaopt.check(Descent(0.1))


def test_a_good_algorithm_passes(getkey: Callable[[], jax.Array]) -> None:
    model = eqx.nn.MLP(2, 1, 3, 1, key=getkey())
    report = metaopt.check(metaopt.from_optax(optax.adam, learning_rate=0.1), model)
    assert report.param_bytes == 4 * (2 * 3 + 3 + 3 + 1)
    assert report.state_bytes == 2 * report.param_bytes + 4
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree_util.tree_leaves(report.state) if not callable(x))


def test_a_task_is_enough() -> None:
    report = metaopt.check(metaopt.from_optax(optax.sgd, learning_rate=0.1), task=Noisy())
    assert (report.param_bytes, report.state_bytes) == (8, 0)


def test_nothing_is_computed() -> None:
    large = jax.ShapeDtypeStruct((2**20, 2**20), jnp.float32)
    report = metaopt.check(metaopt.from_optax(optax.adam, learning_rate=0.1), {"w": large})
    assert report.param_bytes == 2**42
