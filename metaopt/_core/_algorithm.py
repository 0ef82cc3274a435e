"""The one contract: everything that improves parameters."""

import abc
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PRNGKeyArray, Scalar

from ._losses import told
from .arrays._buffers import owning_init


S = TypeVar("S")
P = TypeVar("P")
G = TypeVar("G")
T = TypeVar("T")


class AbstractAlgorithm(eqx.Module, Generic[S, P, G]):
    r"""A pure rule that improves parameters.

    An algorithm is a pair of functions

    $$s_0 = \mathrm{init}(\theta_0), \qquad (s_{t+1}, \theta_{t+1}) = \mathrm{step}(s_t, \theta_t, g_t)$$

    over a state $s$ (type `S`), parameters $\theta$ (`P`) and a signal $g$ (`G`). For most algorithms the signal is a
    gradient; for a multi-objective combiner it is the gradients stacked on a leading axis, for an SCF accelerator the
    residual, for Reptile the difference `params - adapted`.

    Both functions are pure and may be used under `jax.jit`, `jax.vmap`, `jax.grad`, `jax.lax.scan` and
    `jax.shard_map`. An algorithm is itself a pytree whose leaves are its hyperparameters and learned weights, so it
    can be the `params` of another algorithm.

    The `value` of `step` may be any real number (`float(loss)`, a NumPy scalar, a 0-d array of any floating-point
    dtype): the class sees to it that the body of `step` is given an array.

    A fresh state owns its arrays: whatever `init` returns, arrays that share memory with each other, with the
    parameters, with the key or with the algorithm are copied. So state and parameters can be donated to a compiled step
    (`jax.jit(..., donate_argnums=(0, 1))`), and the algorithm is whole afterwards.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        # What `typing.Generic` does of its own for subclasses, which this would hide.
        Generic.__dict__["__init_subclass__"].__get__(None, cls)(**options)
        if "step" in cls.__dict__:
            cls.step = told(cls.__dict__["step"])
        owning_init(cls)

    @abc.abstractmethod
    def init(self, params: P, *, key: PRNGKeyArray | None = None) -> S:
        """Make the state that belongs to `params`.

        **Arguments:**

        - `params`: any pytree; only its inexact-array leaves will be changed by `step`.
        - `key`: a random key, for algorithms that draw random numbers. Keys then live in the state.

        **Returns:**

        The state, a pytree.
        """

    @abc.abstractmethod
    def step(self, state: S, params: P, grads: G, *, value: Scalar | None = None) -> tuple[S, P]:
        """Improve `params` once.

        **Arguments:**

        - `state`: the state from `init` or from the step before.
        - `params`: the parameters at which `grads` was computed.
        - `grads`: the signal. `None` where a leaf has no gradient: that leaf is left alone.
        - `value`: the loss at `params`, for algorithms that use it.

        **Returns:**

        The new state and the new parameters, both with structure, shapes and dtypes unchanged.
        """


class AbstractPlanner(eqx.Module):
    """A part of an algorithm that plans ahead: it is told how many steps it will be given.

    The budget is an integer leaf, set by [`metaopt.with_horizon`][]; the drivers do it for you.
    """

    horizon: eqx.AbstractVar[Int[Array, ""]]


class _Assumed(int):
    """A number of steps that nobody has given."""


ASSUMED_HORIZON = _Assumed(1000)
"""What planners take for their horizon as long as nobody tells them."""

# The horizons that somebody has given, by their identity: a leaf must stay an integer like any other, in files too.
_told: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()


def horizon_leaf(steps: Any, name: str = "horizon") -> Int[Array, ""]:
    """A number of steps, as the leaf of a planner that remembers whether it was given or assumed.

    **Raises:**

    - `TypeError`: if it is no integer.
    - `ValueError`: if it is no single one, is below 1, or does not fit in 32 bits.
    """
    is_integer = isinstance(steps, int) or (eqx.is_array(steps) and jnp.issubdtype(steps.dtype, jnp.integer))
    if isinstance(steps, bool) or not is_integer:
        given = f"one of dtype {np.result_type(steps)}" if eqx.is_array(steps) else repr(steps)
        raise TypeError(f"`{name}` must be a whole number of steps, an integer such as 100, but {given} was given.")
    if np.shape(steps):
        raise ValueError(f"`{name}` must be a single number of steps, but its shape is {np.shape(steps)}.")
    if not isinstance(steps, Tracer) and not 1 <= int(steps) < 2**31:
        bound = "at least 1" if int(steps) < 1 else "below 2**31"
        raise ValueError(f"`{name}` must be {bound}, but {int(steps)} was given.")
    leaf = jnp.asarray(int(steps) if isinstance(steps, int) else steps, jnp.int32)
    if not isinstance(leaf, Tracer) and not isinstance(steps, _Assumed):
        _told[id(leaf)] = leaf
    return leaf


def _planners(tree: Any) -> Iterator[AbstractPlanner]:
    for node in jtu.tree_leaves(tree, is_leaf=lambda x: isinstance(x, AbstractPlanner)):
        if isinstance(node, AbstractPlanner):
            yield node
            for field in dataclasses.fields(node):
                yield from _planners(getattr(node, field.name))


def never_told(algorithm: Any) -> list[str]:
    """The names of the parts that plan ahead with the horizon that is assumed where none is given."""

    def is_assumed(horizon: Any) -> bool:
        known = isinstance(horizon, Tracer) or _told.get(id(horizon)) is horizon
        return not known and bool(np.all(np.asarray(horizon) == ASSUMED_HORIZON))

    return [type(planner).__name__ for planner in _planners(algorithm) if is_assumed(planner.horizon)]


def with_horizon(algorithm: T, steps: int | np.integer[Any] | Int[Array, ""] | Int[np.ndarray, ""]) -> T:
    """Tell every part of an algorithm that plans ahead how many steps it will be given.

    [`metaopt.unroll`][] and [`metaopt.minimize`][] call this themselves; call it once before a training loop of
    your own. Algorithms that do not plan ahead are returned unchanged.

    **Arguments:**

    - `algorithm`: an algorithm, or any pytree that holds algorithms (a [`metaopt.Learner`][], say).
    - `steps`: the number of steps, at least 1: an integer, or an integer array without axes, which may be traced.

    **Returns:**

    The same pytree with each `horizon` replaced.

    **Raises:**

    - `TypeError`: if `steps` is no integer; a float is none, even where it is whole.
    - `ValueError`: if `steps` is below 1, or more than one number.
    """
    horizon = horizon_leaf(steps, "steps")
    if not any(True for _ in _planners(algorithm)):
        return algorithm
    return eqx.tree_at(lambda tree: [p.horizon for p in _planners(tree)], algorithm, replace_fn=lambda _: horizon)
