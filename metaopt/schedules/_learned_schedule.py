"""A schedule that is meta-learned."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm, AbstractPlanner
from .._core._algorithm import ASSUMED_HORIZON, horizon_leaf
from .._core.arrays._numbers import COUNT
from .._core.arrays._trees import global_norm
from ._common import needed, scaled


P = TypeVar("P")

_DECAYS = (0.9, 0.99)
_TIMES = (0.05, 0.2, 0.5, 0.8)
# The time, marks along it, averages of the loss, the difference of two of them, and the norm.
_FEATURES = 1 + len(_TIMES) + len(_DECAYS) + 2


class _LearnedState(NamedTuple):
    """Moving averages of the logarithm of the loss and of the gradient's norm, relative to the first of each."""

    inner: PyTree
    clock: Int[Array, ""]
    first: Float[Array, " two"]
    losses: Float[Array, " decays"]
    norm: Float[Array, ""]


class LearnedSchedule(AbstractAlgorithm[_LearnedState, Any, Any], AbstractPlanner):
    r"""Scale the steps of an inner algorithm by what a small network makes of the course of the run.

    $$\phi_t = \exp\left(3 \tanh\left(\tfrac13 N(x_t)\right)\right)$$

    where $N$ has one hidden layer. The features $x_t$ are the time, as $t / H$ and $\tanh(10 (t / H - \tau_i))$ at four
    $\tau$, two moving averages of $\log (v_t / v_0)$ and the difference between them, and one of the logarithm of the
    gradient's norm over the first. Its output weights start at zero, so an untrained schedule changes nothing; what it
    multiplies may be a schedule itself, such as [`metaopt.schedules.Cosine`][]. Train it with
    [`metaopt.meta_train`][].

    It plans ahead: tell it the budget with [`metaopt.with_horizon`][]. Losses are taken by their absolute value.
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    hidden: eqx.nn.Linear
    output: eqx.nn.Linear
    horizon: Int[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        hidden_size: int = 16,
        *,
        horizon: ScalarLike = ASSUMED_HORIZON,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `hidden_size`: of the network.
        - `horizon`: how many steps there will be; drivers set it.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: if `hidden_size` or `horizon` is below 1.
        """
        COUNT.check(horizon=horizon, hidden_size=hidden_size)
        self.inner, self.horizon = inner, horizon_leaf(horizon)
        self.hidden = eqx.nn.Linear(_FEATURES, hidden_size, key=jr.key(0) if key is None else key)
        zero = eqx.nn.Linear(hidden_size, 1, key=jr.key(0))
        self.output = eqx.tree_at(lambda x: (x.weight, x.bias), zero, replace_fn=jnp.zeros_like)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _LearnedState:
        dtype = self.hidden.weight.dtype
        return _LearnedState(
            inner=self.inner.init(params, key=key),
            clock=jnp.zeros((), jnp.int32),
            first=jnp.zeros(2, dtype),
            losses=jnp.zeros(len(_DECAYS), dtype),
            norm=jnp.zeros((), dtype),
        )

    def step(
        self, state: _LearnedState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_LearnedState, P]:
        loss = needed("LearnedSchedule", value)
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        dtype = state.norm.dtype
        sizes = jnp.stack([jnp.abs(loss).astype(dtype), global_norm(grads).astype(dtype)])
        # What is not finite is not looked at: a network of it would spoil all that follows.
        logs = jnp.log(jnp.where(jnp.isfinite(sizes), sizes, 1) + 1e-12)
        first = jnp.where(state.clock == 0, logs, state.first)
        fall, norm = jnp.clip(logs - first, -20, 20)
        decays = jnp.asarray(_DECAYS, dtype)
        losses = decays * state.losses + (1 - decays) * fall
        norm = _DECAYS[0] * state.norm + (1 - _DECAYS[0]) * norm
        time = state.clock.astype(dtype) / self.horizon.astype(dtype)
        marks = jnp.tanh(10 * (time - jnp.asarray(_TIMES, dtype)))
        features = jnp.concatenate([time[None], marks, losses, (losses[0] - losses[1])[None], norm[None]])
        factor = jnp.exp(3 * jnp.tanh(self.output(jnp.tanh(self.hidden(features)))[0] / 3))
        return _LearnedState(inner, state.clock + 1, first, losses, norm), scaled(params, proposed, factor)
