"""A learned rule that leads as long as it keeps up with a baseline whose curve is known."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from ..._core import AbstractAlgorithm, AbstractPlanner
from ..._core._algorithm import horizon_leaf
from ..._core.arrays._numbers import COUNT, number
from ..._core.arrays._trees import all_finite, match, select, spoiled, trainable


P = TypeVar("P")


class _BaselineGuardedState(NamedTuple):
    """`kept` and `fallback_kept` are those of the step that came to `place` on the baseline's curve, whose smoothed and
    monotone logarithm is `marks`, negated, so that it rises."""

    inner: PyTree
    fallback: PyTree
    fallback_kept: PyTree
    kept: PyTree
    marks: Float[Array, " steps"]
    first: Float[Array, ""]
    level: Float[Array, ""]
    clock: Int[Array, ""]
    place: Float[Array, ""]
    leads: Bool[Array, ""]


class BaselineGuarded(AbstractAlgorithm[_BaselineGuardedState, Any, Any], AbstractPlanner):
    r"""Let a learned rule lead until it falls behind the known curve of a tuned baseline, and then go on with that.

    Whoever tuned a hand-designed optimizer has the losses $r_0, r_1, \dots$ of its best run over $T$ steps, and need
    not run it again to know how far it would have come by now. Let $\ell_t$ be an exponential average of
    $\log (v_t / v_0)$ over the losses so far, and $c_s$ that of $\log (r_s / r_0)$. With a budget of $H$ steps, the
    rule has come as far as the baseline had at

    $$s_t = \max_{u \le t} \, \min \left(u, \left|\{s : \min_{q \le s} c_q > \ell_u\}\right|\right),$$

    and leads as long as it is at most an `allowance` $\epsilon$ of the budget behind: $t - s_t \le \epsilon H$. After
    that, or once a value or a step is not finite, the fallback takes over for good, at the point where $s_t$ was
    reached. Its state has followed the gradients up to there, and so has its schedule.

    Give it $H = T / (1 - \epsilon)$ steps. Then $T - s_t$ are left for the fallback, as many as the baseline had at
    this loss: if it needs no more from there than it did from its own point, the baseline's final loss is reached
    within $1 / (1 - \epsilon)$ times its steps, whatever the inner rule does. A step costs one evaluation.

    Losses must be positive; those that are not count as the smallest positive number. What is not finite enters neither
    the average nor the fallback's state. Unlike [`metaopt.l2o.LossGuarded`][], which races the two from the same
    points, this judges by how far a rule has come and not by its next few steps, in which a rate that will decay later
    looks bad.
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    fallback: AbstractAlgorithm[Any, Any, Any]
    curve: Float[Array, " steps"]
    allowance: Float[Array, ""]
    smoothing: Float[Array, ""]
    horizon: Int[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        fallback: AbstractAlgorithm[Any, Any, Any],
        curve: Sequence[float] | Float[Array, "..."] | Float[np.ndarray, "..."],
        *,
        allowance: ScalarLike = 0.04,
        smoothing: ScalarLike = 0.02,
        horizon: int | Int[Array, ""] | None = None,
    ):
        r"""**Arguments:**

        - `inner`: the learned rule.
        - `fallback`: the tuned baseline.
        - `curve`: its losses $r_0, r_1, \dots$, step by step, as it is given them by `value`. If tasks differ, a
            geometric mean over some of them.
        - `allowance`: $\epsilon$, the share of the budget by which the rule may be behind.
        - `smoothing`: the share of the budget over which the average over steps has its weight, an exponential one.
        - `horizon`: $H$, the budget; drivers set it. By default $T / (1 - \epsilon)$, rounded up.

        **Raises:**

        - `ValueError`: if `curve` has fewer than two entries, or one that is not positive and finite, or a share is not
            in $[0, 1)$.
        """
        COUNT.check(horizon=horizon)
        losses = np.asarray(curve, float)
        if losses.ndim != 1 or losses.size < 2 or not np.all(np.isfinite(losses) & (losses > 0)):
            raise ValueError(
                f"`curve` must hold at least two positive, finite losses, but {curve!r} was given. "
                "Add a constant to a loss that can be zero or negative, or end the curve before it diverges."
            )
        for name, share in (("allowance", allowance), ("smoothing", smoothing)):
            if isinstance(share, int | float) and not 0 <= share < 1:
                raise ValueError(f"`{name}` must be at least 0 and less than 1, but {share!r} was given.")
        self.inner, self.fallback = inner, fallback
        self.curve = jnp.asarray(losses, jnp.result_type(float))
        self.allowance, self.smoothing = number(allowance), number(smoothing)
        budget = jnp.ceil(losses.size / (1 - self.allowance)).astype(jnp.int32)
        self.horizon = horizon_leaf(budget if horizon is None else horizon)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _BaselineGuardedState:
        fallback, dtype = self.fallback.init(params, key=key), self.curve.dtype
        return _BaselineGuardedState(
            inner=self.inner.init(params, key=key),
            fallback=fallback,
            fallback_kept=fallback,
            kept=trainable(params),
            marks=self._marks(),
            first=jnp.zeros((), dtype),
            level=jnp.zeros((), dtype),
            clock=jnp.zeros((), jnp.int32),
            place=jnp.zeros((), dtype),
            leads=jnp.asarray(True),
        )

    def step(
        self, state: _BaselineGuardedState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_BaselineGuardedState, P]:
        if value is None:
            raise ValueError(
                "`BaselineGuarded` follows losses, but no `value` was given. Call `step(..., value=loss)`."
            )
        matched = match(params, grads)
        inner, proposal = self.inner.step(state.inner, params, grads, value=value)
        followed, safe = self.fallback.step(state.fallback, params, grads, value=value)
        now, kept = [leaf.param for leaf in matched.leaves], matched.pick(state.kept)

        seen = jnp.isfinite(value)
        tiny = jnp.finfo(state.level.dtype).tiny
        loss = jnp.log(jnp.maximum(jnp.where(seen, value.astype(state.level.dtype), 1), tiny))
        first = jnp.where(state.clock == 0, loss, state.first)
        budget, time = (count.astype(state.level.dtype) for count in (self.horizon, state.clock))
        level = state.level + jnp.where(seen, self._weight(time, budget) * (loss - first - state.level), 0)
        beaten = jnp.searchsorted(state.marks, -level).astype(level.dtype)
        reached = jnp.minimum(time, beaten * budget * (1 - self.allowance) / state.marks.size)
        further = state.leads & (reached > state.place) & seen
        place = jnp.where(further, reached, state.place)

        proposed, stepped = matched.pick(proposal), matched.pick(safe)
        finite = seen & all_finite([leaf.grad for leaf in matched.leaves])
        sane = finite & ~spoiled((state.inner, now), (inner, proposed))
        # What is not finite leaves no trace in the baseline either, which then stays where it is.
        sound = finite & ~spoiled((state.fallback, now), (followed, stepped))
        followed, stepped = select(sound, (followed, stepped), (state.fallback, now))
        leads = state.leads & sane & (time - place <= self.allowance * budget)
        back = state.leads & ~leads & ~further
        updated = _BaselineGuardedState(
            inner=select(leads, inner, state.inner),
            fallback=select(back, state.fallback_kept, followed),
            fallback_kept=select(further, state.fallback, state.fallback_kept),
            kept=matched.put(state.kept, select(further, now, kept)),
            marks=state.marks,
            first=first,
            level=level,
            clock=state.clock + 1,
            place=place,
            leads=leads,
        )
        return updated, matched.rebuild(select(leads, proposed, select(back, kept, stepped)))

    def _weight(self, time: Float[Array, ""], budget: Float[Array, ""] | float) -> Float[Array, ""]:
        """The weight of the newest loss in the average: that of a plain mean until there are enough of them."""
        return jnp.maximum(1 / jnp.maximum(self.smoothing * budget, 1), 1 / (time + 1))

    def _marks(self) -> Float[Array, " steps"]:
        logarithm = jnp.log(self.curve / self.curve[0])

        def average(level: Float[Array, ""], at: tuple[Array, Array]) -> tuple[Array, Array]:
            time, new = at
            level = level + self._weight(time, float(logarithm.size)) * (new - level)
            return level, level

        times = jnp.arange(logarithm.size, dtype=logarithm.dtype)
        _, levels = jax.lax.scan(average, jnp.zeros_like(logarithm[0]), (times, logarithm))
        return jax.lax.cummax(-levels)
