"""A learned rule that converges where gradient descent does."""

from typing import Any, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import LIMIT, number
from ..._core.arrays._trees import (
    Matched,
    add_up,
    all_finite,
    compute_dtype,
    global_norm,
    match,
    select,
    spoiled,
    trainable,
)


# The longest streak of rejections that still lengthens the pause after one: 2^19 steps.


P = TypeVar("P")

# A streak of s failures is followed by a pause of 2^(s - 1) - 1 steps, here at most 524,287. From 32 on it would
# overflow 32 bits.
_LONGEST_STREAK = 20


class _SafeguardedState(NamedTuple):
    """`retreat` is where to go if what stands at the current parameters is not accepted, and `bound` the measure that
    it has to reach."""

    inner: PyTree
    fallback: PyTree
    retreat: PyTree
    reference: Float[Array, ""]
    bound: Float[Array, ""]
    trial: Bool[Array, ""]
    rejected: Int[Array, ""]
    streak: Int[Array, ""]
    pause: Int[Array, ""]


class Safeguarded(AbstractAlgorithm[_SafeguardedState, Any, Any]):
    r"""Let a learned rule propose, and fall back on a hand-designed one where a proposal is not good enough.

    Let $x_k$ be the accepted iterates, $g_k$ their gradients, $T x_k$ the fallback's step from $x_k$ and $p_k$ that of
    the inner rule. The proposal $p_k$ is returned, and judged when its own value and gradient come in with the next
    step, so that each step costs one evaluation as always:

    $$x_{k+1} = \begin{cases} p_k & \text{if } p_k \text{ is accepted} \\ T x_k & \text{otherwise} \end{cases}
      \qquad
      \begin{aligned}
      \text{by value:} \quad & f(p_k) \le C_k - \tfrac c2 \langle g_k, x_k - T x_k \rangle \\
      \text{by gradient:} \quad & \lVert \nabla f(p_k) \rVert \le (1 - c) \, C_k
      \end{aligned}$$

    where $C_{k+1} = \beta C_k + (1 - \beta) v_{k+1}$ averages the values (or norms of gradients) $v_k$ of accepted
    iterates, from $C_0 = v_0$. Values and proposals that are not finite are rejections, and so are, without an
    evaluation, proposals that are farther away than `reach` times the fallback's. Both rules see accepted iterates
    only.

    If $f$ is smooth with constant $L$, bounded below and deterministic, and the fallback is gradient descent at a rate
    $\eta \le 1 / L$, then gradients vanish *whatever the inner rule does*, and for convex $f$ values converge to the
    minimum; rates and proofs are in the guide. By value, the first holds without convexity too. For minibatches see
    [`metaopt.l2o.LossGuarded`][].

    After the $j$-th rejection in a row, the inner rule only watches for the next $2^{j - 1} - 1$ accepted iterates: a
    rule that is always rejected costs no more than $1 + \log_2 t$ of $t$ evaluations. The state's `rejected` counts
    them.

    ??? cite "Reference"

        Acceptance of learned steps by an averaged residual, and by a sufficient decrease below an average of values:

        ```bibtex
        @inproceedings{heaton2023safeguarded,
          title={Safeguarded Learned Convex Optimization},
          author={Heaton, Howard and Chen, Xiaohan and Wang, Zhangyang and Yin, Wotao},
          booktitle={AAAI}, year={2023}
        }
        @article{zhang2004nonmonotone,
          title={A nonmonotone line search technique and its application to unconstrained optimization},
          author={Zhang, Hongchao and Hager, William W.},
          journal={SIAM Journal on Optimization}, volume={14}, number={4}, year={2004}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    fallback: AbstractAlgorithm[Any, Any, Any]
    decrease: Float[Array, ""]
    memory: Float[Array, ""]
    reach: Float[Array, ""]
    criterion: Literal["value", "gradient"] = eqx.field(static=True)
    backoff: bool = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        fallback: AbstractAlgorithm[Any, Any, Any],
        criterion: Literal["value", "gradient"] = "value",
        *,
        decrease: ScalarLike | None = None,
        memory: ScalarLike = 0.5,
        reach: ScalarLike = 1e4,
        backoff: bool = True,
    ):
        r"""**Arguments:**

        - `inner`: the rule that proposes.
        - `fallback`: the rule with a guarantee.
        - `criterion`: judge by `"value"`, for which steps need `value`, or by the norm of the `"gradient"`.
        - `decrease`: $c$, what an accepted proposal must gain: by value, the share of the decrease that gradient
            descent is sure of (by default 0.5); by gradient, the share by which the norm must lie below its average
            (0.1).
        - `memory`: $\beta$. With 0, each accepted proposal must be better than the iterate before.
        - `reach`: how many times as long as the fallback's a step may be.
        - `backoff`: whether rejections make the inner rule pause.

        **Raises:**

        - `ValueError`: if `criterion` is another word, `decrease` is not in $(0, 1]$, `memory` not in $[0, 1)$, or
            `reach` not positive.
        """
        LIMIT.check(reach=reach)
        if criterion not in ("value", "gradient"):
            raise ValueError(f"`criterion` must be 'value' or 'gradient', but {criterion!r} was given.")
        if decrease is None:
            decrease = 0.5 if criterion == "value" else 0.1
        if isinstance(decrease, int | float) and not 0 < decrease <= 1:
            raise ValueError(f"`decrease` must be above 0 and at most 1, but {decrease!r} was given.")
        if isinstance(memory, int | float) and not 0 <= memory < 1:
            raise ValueError(f"`memory` must be at least 0 and less than 1, but {memory!r} was given.")
        if isinstance(reach, int | float) and not reach > 0:
            raise ValueError(f"`reach` must be positive, but {reach!r} was given.")
        self.inner, self.fallback = inner, fallback
        self.criterion, self.backoff = criterion, backoff
        self.decrease, self.memory, self.reach = number(decrease), number(memory), number(reach)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _SafeguardedState:
        dtype = jnp.result_type(float)
        return _SafeguardedState(
            inner=self.inner.init(params, key=key),
            fallback=self.fallback.init(params, key=key),
            retreat=trainable(params),
            reference=jnp.asarray(_highest(dtype)),
            bound=jnp.asarray(_highest(dtype)),
            trial=jnp.asarray(False),
            rejected=jnp.zeros((), jnp.int32),
            streak=jnp.zeros((), jnp.int32),
            pause=jnp.zeros((), jnp.int32),
        )

    def step(
        self, state: _SafeguardedState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_SafeguardedState, P]:
        measure = self._measure(grads, value).astype(state.bound.dtype)
        matched = match(params, grads)
        inner, proposal = self.inner.step(state.inner, params, grads, value=value)
        fallback, safe = self.fallback.step(state.fallback, params, grads, value=value)
        proposed, stepped = matched.pick(proposal), matched.pick(safe)
        length = global_norm(_moves(matched, proposed))
        sane = jnp.isfinite(length) & ~spoiled(state.inner, inner)
        near = sane & (length <= self.reach.astype(length.dtype) * global_norm(_moves(matched, stepped)))
        good = jnp.isfinite(measure) & all_finite([leaf.grad for leaf in matched.leaves]) & (measure <= state.bound)
        asked = good & (state.pause == 0)
        trial = asked & near

        highest = _highest(measure.dtype)
        start = jnp.where(state.reference == highest, measure, state.reference)
        average = start + (1 - jnp.clip(self.memory, 0, 0.999).astype(start.dtype)) * (measure - start)
        bound = jnp.where(trial, self._bound(average, matched, stepped), highest)
        lost = (state.trial & ~good) | (asked & ~near)
        streak = jnp.where(state.trial & good, 0, state.streak) + lost.astype(jnp.int32)
        streak = jnp.minimum(streak, _LONGEST_STREAK).astype(jnp.int32)
        pause = jnp.where(good, jnp.maximum(state.pause - 1, 0), state.pause)
        pause = jnp.where(lost, jnp.left_shift(1, jnp.maximum(streak - 1, 0)) - 1, pause).astype(jnp.int32)

        # What is not finite leaves no trace in the memory of either rule.
        sound = good & ~spoiled((state.fallback, [leaf.param for leaf in matched.leaves]), (fallback, stepped))
        retreat = select(sound, stepped, matched.pick(state.retreat))
        new = _SafeguardedState(
            inner=select(good & sane, inner, state.inner),
            fallback=select(sound, fallback, state.fallback),
            retreat=matched.put(state.retreat, retreat),
            reference=jnp.where(good, average, state.reference),
            bound=bound,
            trial=trial,
            rejected=state.rejected + lost.astype(jnp.int32),
            streak=streak,
            pause=pause if self.backoff else state.pause,
        )
        return new, matched.rebuild(select(trial, proposed, retreat))

    def _measure(self, grads: PyTree, value: Scalar | None) -> Float[Array, ""]:
        if self.criterion == "gradient":
            return global_norm(grads)
        if value is None:
            raise ValueError(
                "`Safeguarded` judges by the loss, but no `value` was given. Call `step(..., value=loss)`, or choose "
                '`criterion="gradient"`.'
            )
        return jnp.asarray(value)

    def _bound(self, average: Float[Array, ""], matched: Matched, stepped: list[Array]) -> Float[Array, ""]:
        """What a proposal has to reach."""
        decrease = jnp.clip(self.decrease, 1e-6, 1).astype(average.dtype)
        if self.criterion == "gradient":
            return (1 - decrease) * average
        moves = zip(matched.leaves, _moves(matched, stepped), strict=True)
        # Without a conjugate: the derivative of a real function of z along d is Re(g d), with JAX's gradient g.
        gains = [-jnp.sum(jnp.real(leaf.grad.astype(move.dtype) * move)) for leaf, move in moves]
        return average - decrease / 2 * jnp.maximum(add_up(gains), 0).astype(average.dtype)


def _highest(dtype: Any) -> np.floating[Any]:
    """The largest number: what stands for none where states must be finite."""
    return jnp.finfo(dtype).max


def _moves(matched: Matched, new: list[Array]) -> list[Array]:
    """How far each parameter goes."""
    dtypes = [compute_dtype(leaf.param.dtype) for leaf in matched.leaves]
    triples = zip(matched.leaves, new, dtypes, strict=True)
    return [array.astype(dtype) - leaf.param.astype(dtype) for leaf, array, dtype in triples]
