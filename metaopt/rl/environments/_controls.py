"""What actions do to an algorithm."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm, Optax
from ..._core.arrays._numbers import LIMIT, POSITIVE, REAL
from ..._core.arrays._trees import select
from ...schedules._common import scaled
from .._spaces import Box, Discrete
from ..base import AbstractControl


class _Scaled(NamedTuple):
    inner: PyTree
    scale: Float[Array, ""]


class _AbstractScaling(AbstractControl[_Scaled]):
    """Actions decide on the length of the steps."""

    def init(self, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, *, key: PRNGKeyArray | None) -> _Scaled:
        return _Scaled(inner.init(params, key=key), jnp.ones((), jnp.result_type(float)))

    def step(
        self,
        state: _Scaled,
        inner: AbstractAlgorithm[Any, Any, Any],
        params: PyTree,
        grads: PyTree,
        *,
        value: Scalar | None = None,
    ) -> tuple[_Scaled, PyTree]:
        new, proposed = inner.step(state.inner, params, grads, value=value)
        return _Scaled(new, state.scale), scaled(params, proposed, state.scale)

    def setting(self, state: _Scaled) -> Float[Array, ""]:
        return jnp.log(state.scale)


class RateMultipliers(_AbstractScaling):
    """Multiply the length of the steps by one of several factors.

    **Arguments:**

    - `factors`: one for each action.
    - `lowest`, `highest`: between which the product stays.
    """

    factors: tuple[float, ...] = eqx.field(static=True, default=(1.0, 0.5, 0.8, 1.25, 2.0))
    lowest: float = eqx.field(static=True, default=1e-3)
    highest: float = eqx.field(static=True, default=1e3)

    def __check_init__(self) -> None:
        POSITIVE.check(factors=self.factors, lowest=self.lowest)
        LIMIT.check(highest=self.highest)
        if not self.factors or not all(factor > 0 for factor in self.factors):
            raise ValueError(f"`factors` must be positive numbers, at least one, but {self.factors} was given.")

    @property
    def space(self) -> Discrete:
        """One action for each factor."""
        return Discrete(len(self.factors))

    def act(
        self, state: _Scaled, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, action: Int[Array, ""]
    ) -> _Scaled:
        del inner, params
        factor = jnp.asarray(self.factors, state.scale.dtype)[action]
        return _Scaled(state.inner, jnp.clip(state.scale * factor, self.lowest, self.highest))


class LogRate(_AbstractScaling):
    """Set the length of the steps: the action is the logarithm of the factor.

    **Arguments:**

    - `low`, `high`: the range.
    """

    low: float = eqx.field(static=True, default=-3.0)
    high: float = eqx.field(static=True, default=3.0)

    def __check_init__(self) -> None:
        REAL.check(low=self.low, high=self.high)

    @property
    def space(self) -> Box:
        """One number."""
        return Box(1, self.low, self.high)

    def act(
        self, state: _Scaled, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, action: Float[Array, "1"]
    ) -> _Scaled:
        del inner, params
        return _Scaled(state.inner, jnp.exp(action[0]).astype(state.scale.dtype))


class _Moving(NamedTuple):
    inner: PyTree
    scale: Float[Array, ""]
    momentum: Float[Array, ""]


class RateAndMomentum(AbstractControl[_Moving]):
    r"""Set the length of the steps and the momentum of an algorithm of [`metaopt.from_optax`][].

    The first number of an action is the logarithm of the factor, from `low` to `high`. The second, of the same range,
    stands for the number of steps over which the momentum averages: from 1 to `longest`, evenly spaced on a logarithmic
    scale. The momentum is $1 - 1 / n$.

    **Arguments:**

    - `low`, `high`: the range.
    - `longest`: the largest $n$.
    - `hyperparameter`: the one that is the momentum: `b1` of Adam, `momentum` of gradient descent.

    **Raises:**

    - `ValueError`: if `longest` is not above 1, or, from `init`, if the algorithm has no such hyperparameter.
    """

    low: float = eqx.field(static=True, default=-3.0)
    high: float = eqx.field(static=True, default=3.0)
    longest: float = eqx.field(static=True, default=100.0)
    hyperparameter: str = eqx.field(static=True, default="b1")

    def __check_init__(self) -> None:
        REAL.check(low=self.low, high=self.high)
        LIMIT.check(longest=self.longest)
        if not self.longest > 1:
            raise ValueError(f"`longest` must be above 1, but {self.longest} was given.")

    @property
    def space(self) -> Box:
        """Two numbers."""
        return Box(2, self.low, self.high)

    def _named(self, inner: AbstractAlgorithm[Any, Any, Any]) -> list[Any]:
        parts = jtu.tree_leaves(inner, is_leaf=lambda x: isinstance(x, Optax))
        return [
            x.hyperparameters[self.hyperparameter]
            for x in parts
            if isinstance(x, Optax) and self.hyperparameter in x.hyperparameters
        ]

    def init(self, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, *, key: PRNGKeyArray | None) -> _Moving:
        if not (found := self._named(inner)):
            raise ValueError(
                f"`RateAndMomentum` sets the hyperparameter `{self.hyperparameter}`, but the algorithm has none of "
                "this name. Give it to the factory, as in `from_optax(optax.adam, learning_rate=1e-3, b1=0.9)`."
            )
        return _Moving(inner.init(params, key=key), jnp.ones((), jnp.result_type(float)), found[0])

    def act(
        self, state: _Moving, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, action: Float[Array, "2"]
    ) -> _Moving:
        del inner, params
        share = (action[1] - self.low) / (self.high - self.low)
        momentum = 1 - self.longest**-share
        return _Moving(state.inner, jnp.exp(action[0]).astype(state.scale.dtype), momentum.astype(state.momentum.dtype))

    def step(
        self,
        state: _Moving,
        inner: AbstractAlgorithm[Any, Any, Any],
        params: PyTree,
        grads: PyTree,
        *,
        value: Scalar | None = None,
    ) -> tuple[_Moving, PyTree]:
        inner = eqx.tree_at(self._named, inner, replace_fn=lambda _: state.momentum)
        new, proposed = inner.step(state.inner, params, grads, value=value)
        return _Moving(new, state.scale, state.momentum), scaled(params, proposed, state.scale)

    def setting(self, state: _Moving) -> Float[Array, ""]:
        return jnp.log(state.scale)


class _Chosen(NamedTuple):
    members: tuple[PyTree, ...]
    leader: Int[Array, ""]


class Choice(AbstractControl[_Chosen]):
    """Choose which of several algorithms steps. The states of all follow the gradients.

    **Arguments:**

    - `others`: what else there is: action 0 is the inner algorithm itself.
    """

    others: tuple[AbstractAlgorithm[Any, Any, Any], ...]

    @property
    def space(self) -> Discrete:
        """One action for each algorithm."""
        return Discrete(1 + len(self.others))

    def init(self, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, *, key: PRNGKeyArray | None) -> _Chosen:
        states = tuple(each.init(params, key=key) for each in (inner, *self.others))
        return _Chosen(states, jnp.zeros((), jnp.int32))

    def act(
        self, state: _Chosen, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, action: Int[Array, ""]
    ) -> _Chosen:
        del inner, params
        return _Chosen(state.members, action.astype(jnp.int32))

    def step(
        self,
        state: _Chosen,
        inner: AbstractAlgorithm[Any, Any, Any],
        params: PyTree,
        grads: PyTree,
        *,
        value: Scalar | None = None,
    ) -> tuple[_Chosen, PyTree]:
        members, taken = [], params
        for i, (each, old) in enumerate(zip((inner, *self.others), state.members, strict=True)):
            new, proposed = each.step(old, params, grads, value=value)
            members.append(new)
            taken = proposed if i == 0 else select(state.leader == i, proposed, taken)
        return _Chosen(tuple(members), state.leader), taken

    def setting(self, state: _Chosen) -> Float[Array, ""]:
        return state.leader.astype(jnp.result_type(float))


class _Restarted(NamedTuple):
    inner: PyTree
    restarts: Int[Array, ""]


class Restart(AbstractControl[_Restarted]):
    """Start the state of the algorithm anew, its momentum for one (action 1), or leave it (action 0)."""

    @property
    def space(self) -> Discrete:
        """Whether to."""
        return Discrete(2)

    def init(self, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, *, key: PRNGKeyArray | None) -> _Restarted:
        return _Restarted(inner.init(params, key=key), jnp.zeros((), jnp.int32))

    def act(
        self, state: _Restarted, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, action: Int[Array, ""]
    ) -> _Restarted:
        anew = action == 1
        return _Restarted(
            select(anew, inner.init(params), state.inner), state.restarts + anew.astype(state.restarts.dtype)
        )

    def step(
        self,
        state: _Restarted,
        inner: AbstractAlgorithm[Any, Any, Any],
        params: PyTree,
        grads: PyTree,
        *,
        value: Scalar | None = None,
    ) -> tuple[_Restarted, PyTree]:
        new, params = inner.step(state.inner, params, grads, value=value)
        return _Restarted(new, state.restarts), params

    def setting(self, state: _Restarted) -> Float[Array, ""]:
        return jnp.log1p(state.restarts.astype(jnp.result_type(float)))
