"""The one contract: everything that improves parameters."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from ._buffers import owning_init


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

    A fresh state owns its arrays: whatever `init` returns, arrays that share memory with each other, with the
    parameters, with the key or with the algorithm are copied. So state and parameters can be donated to a compiled step
    (`jax.jit(..., donate_argnums=(0, 1))`), and the algorithm is whole afterwards.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
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


def _planners(tree: PyTree[Any]) -> Iterator[AbstractPlanner]:
    for node in jtu.tree_leaves(tree, is_leaf=lambda x: isinstance(x, AbstractPlanner)):
        if isinstance(node, AbstractPlanner):
            yield node
            for field in dataclasses.fields(node):
                yield from _planners(getattr(node, field.name))


def with_horizon(algorithm: PyTree[Any, "T"], steps: int | ScalarLike) -> PyTree[Any, "T"]:
    """Tell every part of an algorithm that plans ahead how many steps it will be given.

    [`metaopt.unroll`][] and [`metaopt.minimize`][] call this themselves; call it once before a training loop of
    your own. Algorithms that do not plan ahead are returned unchanged.

    **Arguments:**

    - `algorithm`: an algorithm, or any pytree that holds algorithms (a [`metaopt.Learner`][], say).
    - `steps`: the number of steps, at least 1. May be a traced integer.

    **Returns:**

    The same pytree with each `horizon` replaced.

    **Raises:**

    - `ValueError`: if `steps` is a Python integer below 1.
    """
    if isinstance(steps, int) and steps < 1:
        raise ValueError(f"`steps` must be at least 1, but {steps} was given.")
    if not any(True for _ in _planners(algorithm)):
        return algorithm
    horizon = jnp.asarray(steps, jnp.int32)
    return eqx.tree_at(lambda tree: [p.horizon for p in _planners(tree)], algorithm, replace_fn=lambda _: horizon)
