"""Behavior added by wrapping an inner algorithm."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int, PRNGKeyArray, PyTree, Scalar

from ._algorithm import AbstractAlgorithm
from .arrays._numbers import LIMIT, NONNEGATIVE, number
from .arrays._trees import compute_dtype, global_norm, largest, map_arrays, match, select, spoiled


P = TypeVar("P")


class ClipByGlobalNorm(AbstractAlgorithm[Any, Any, Any]):
    r"""Scale the gradient down to a maximal global norm before the inner algorithm sees it.

    $$g \leftarrow g \cdot \min\left(1, \frac{c}{\lVert g \rVert}\right)$$

    ??? cite "Reference"

        ```bibtex
        @inproceedings{pascanu2013difficulty,
          title={On the difficulty of training recurrent neural networks},
          author={Pascanu, Razvan and Mikolov, Tomas and Bengio, Yoshua},
          booktitle={ICML}, year={2013}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    max_norm: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        LIMIT.check(max_norm=self.max_norm)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> Any:
        return self.inner.init(params, key=key)

    def step(self, state: Any, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[Any, P]:
        norm = global_norm(grads)
        limit = self.max_norm.astype(norm.dtype)
        # The inner `where` keeps the derivative finite where nothing is clipped.
        scale = jnp.where(norm > limit, limit / jnp.where(norm > limit, norm, 1.0), 1.0)
        clipped = map_arrays(
            lambda g: (g.astype(compute_dtype(g.dtype)) * scale.astype(compute_dtype(g.dtype))).astype(g.dtype), grads
        )
        return self.inner.step(state, params, clipped, value=value)


class WeightDecay(AbstractAlgorithm[Any, Any, Any]):
    r"""Decoupled weight decay around any algorithm.

    $$\theta' = \mathrm{inner}(\theta, g) - \lambda \theta$$

    ??? cite "Reference"

        ```bibtex
        @inproceedings{loshchilov2019decoupled,
          title={Decoupled Weight Decay Regularization},
          author={Loshchilov, Ilya and Hutter, Frank},
          booktitle={ICLR}, year={2019}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    rate: Float[Array, ""] = eqx.field(converter=number, default=1e-4)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(rate=self.rate)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> Any:
        return self.inner.init(params, key=key)

    def step(self, state: Any, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[Any, P]:
        state, new = self.inner.step(state, params, grads, value=value)
        matched = match(params, grads)

        def decay(proposed: Inexact[Array, "*shape"], param: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
            dtype = compute_dtype(param.dtype)
            return (proposed.astype(dtype) - self.rate.astype(dtype) * param.astype(dtype)).astype(param.dtype)

        pairs = zip(matched.pick(new), matched.leaves, strict=True)
        return state, matched.put(new, [decay(proposed, leaf.param) for proposed, leaf in pairs])


class _SkipState(NamedTuple):
    """How many steps were left out, how many of them for their size alone, and the sizes of what was taken."""

    inner: PyTree
    skipped: Int[Array, ""]
    jumps: Int[Array, ""]
    signal: Float[Array, ""]
    value: Float[Array, ""]


# What was seen counts for a tenth after 230 steps. A true change of scale is let through after as many steps as it has
# orders of magnitude beyond the limit.
_REMEMBERED = 0.99
_GROWTH = 10.0


class SkipNonFinite(AbstractAlgorithm[Any, Any, Any]):
    r"""Leave out steps that are not finite, or whose signal or loss is absurd beside those before, and count them.

    A step is not taken, so that state and parameters stay what they are, if

    - the signal or `value` holds a number that is not finite,
    - it would make a finite number of the state or of the parameters infinite or NaN, as a finite gradient of $10^{30}$
      makes Adam's second moment, or
    - it is a jump: the largest magnitude $a_t$ in the signal, or $\max(1, |\mathtt{value}|)$, is more than `jump`
      times what was seen lately. One such gradient would stay in averages for as long as these remember.

    What was seen lately is a maximum that decays, and that grows tenfold with each jump that is left out:

    $$r_{t+1} = \begin{cases} 10 \, r_t & \text{if } a_t > \mathtt{jump} \cdot r_t > 0 \\
      \max(a_t, 0.99 \, r_t) & \text{otherwise} \end{cases} \qquad r_0 = 0$$

    So a true change of scale costs a few steps: one for each order of magnitude beyond the limit. Losses count as at
    least 1, as they may pass through zero. Signals that are zero say nothing of the scale and change nothing; as long
    as there was nothing else, everything finite is let through. So of a finite number in the very first step it cannot
    be known whether it is absurd.

    The state's `skipped` is the number of steps that were left out so far, and `jumps` of how many of them everything
    was finite.
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    jump: float | None = eqx.field(static=True)

    def __init__(self, inner: AbstractAlgorithm[Any, Any, Any], jump: float | None = 1e3):
        """**Arguments:**

        - `inner`: the algorithm whose steps are left out.
        - `jump`: how many times larger than what was seen lately a signal or a loss may be. With `None`, everything
            finite is let through.

        **Raises:**

        - `ValueError`: if `jump` is not above 1.
        """
        if jump is not None and not jump > 1:
            raise ValueError(
                f"`jump` must be above 1, but {jump} was given. Use `None` to let everything finite through."
            )
        self.inner, self.jump = inner, None if jump is None else float(jump)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _SkipState:
        return _SkipState(
            inner=self.inner.init(params, key=key),
            skipped=jnp.zeros((), jnp.int32),
            jumps=jnp.zeros((), jnp.int32),
            signal=number(0.0),
            value=number(0.0),
        )

    def step(self, state: _SkipState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[_SkipState, P]:
        inner, new = self.inner.step(state.inner, params, grads, value=value)
        loss = jnp.zeros_like(state.value) if value is None else jnp.maximum(largest(jnp.asarray(value)), 1)
        sizes = jax.lax.stop_gradient((largest(grads), loss))
        fine, jumped, seen = True, False, []
        for size, before in zip(sizes, (state.signal, state.value), strict=True):
            finite, jumps, after = self._judge(size.astype(before.dtype), before)
            fine, jumped = fine & finite, jumped | jumps
            seen.append(after)
        fine = fine & ~spoiled((params, state.inner), (new, inner))
        good = fine & ~jumped
        # What is not finite says nothing of the scale.
        signal, loss = select(fine, tuple(seen), (state.signal, state.value))
        skipped, jumps = (
            count + happened.astype(jnp.int32)
            for count, happened in ((state.skipped, ~good), (state.jumps, fine & jumped))
        )
        return _SkipState(select(good, inner, state.inner), skipped, jumps, signal, loss), select(good, new, params)

    def _judge(
        self, size: Float[Array, ""], before: Float[Array, ""]
    ) -> tuple[Bool[Array, ""], Bool[Array, ""], Float[Array, ""]]:
        """Whether a size is finite, whether it jumps, and what was seen lately then."""
        finite = jnp.isfinite(size)
        # Not `jump * before`, which may be infinite.
        jumps = jnp.zeros((), bool) if self.jump is None else finite & (before > 0) & (size / self.jump > before)
        lately = jnp.where(size > 0, jnp.maximum(size, _REMEMBERED * before), before)
        grown = jnp.minimum(before, jnp.finfo(before.dtype).max / _GROWTH) * _GROWTH
        return finite, jumps, jnp.where(jumps, grown, jnp.where(finite, lately, before))
