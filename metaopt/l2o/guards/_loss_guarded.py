"""A learned rule that has to win against a hand-designed one."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._trees import all_finite, match, select, spoiled, trainable


# Phases: both run from one point, one after the other; then the winner runs alone for a while.
_FALLBACK_HEAT, _INNER_HEAT, _FALLBACK_ALONE, _INNER_ALONE = range(4)


P = TypeVar("P")


class _LossGuardedState(NamedTuple):
    """`kept` are the parameters to go back to (in the second heat the end of the first), `level` is their loss."""

    inner: PyTree
    inner_kept: PyTree
    fallback: PyTree
    kept: PyTree
    level: Float[Array, ""]
    mean: Float[Array, ""]
    counted: Int[Array, ""]
    phase: Int[Array, ""]
    clock: Int[Array, ""]
    alone: Int[Array, ""]
    streak: Int[Array, ""]
    rejected: Int[Array, ""]


class LossGuarded(AbstractAlgorithm[_LossGuardedState, Any, Any]):
    r"""Let a learned and a hand-designed rule race from the same point, and go on with the one that has the lower loss.

    A race has two heats: the fallback steps `window` times, then the inner rule `window` times from the same start. At
    the end of a heat, parameters stand still for `checks` steps, whose values, each on a fresh minibatch, are averaged:
    an unbiased estimate of the expected loss there. The lower one wins, and the next race starts where the winner is.
    Values that are not finite end a heat of the inner rule at once, lost; so does a step that makes a finite number of
    its state infinite or NaN. In heats of the fallback they are passed over.

    After the $j$-th win in a row, the winner runs alone for $2^{j - 1} - 1$ windows, at most `longest`. If it is
    the inner rule, each of them has its checks, and one whose loss is above that of the window before is taken back,
    and answered by a race.

    If gradients are deterministic, $f$ is convex and smooth with constant $L$, and the fallback is gradient descent at
    a rate of at most $1 / L$, then the values of winners converge to the minimum whatever the inner rule does. For
    stochastic gradients, the guide states what is proven and what is only measured. What differs from the paper: there,
    both rules run side by side, with two evaluations per step; a step of ours has one, so heats follow each other, and
    runs alone are ours, to save evaluations.

    The inner rule's state after a lost heat is that before the heat. The state's `rejected` counts lost heats.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{premontschwarz2022simple,
          title={A Simple Guard for Learned Optimizers},
          author={Pr{\'e}mont-Schwarz, Isabeau and V{\'i}tk{\r{u}}, Jaroslav and Feyereisl, Jan},
          booktitle={ICML}, year={2022}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    fallback: AbstractAlgorithm[Any, Any, Any]
    window: int = eqx.field(static=True)
    checks: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        fallback: AbstractAlgorithm[Any, Any, Any],
        *,
        window: int = 10,
        checks: int = 2,
        longest: int = 63,
    ):
        """**Arguments:**

        - `inner`: the learned rule.
        - `fallback`: the rule that it has to beat.
        - `window`: steps of a heat.
        - `checks`: values that are averaged at its end. One will do where values are deterministic.
        - `longest`: for how many windows a winner runs alone, at most. With 0, races follow races, as in the paper.

        **Raises:**

        - `ValueError`: if `window` or `checks` is below 1, or `longest` below 0.
        """
        for name, given, least in (("window", window, 1), ("checks", checks, 1), ("longest", longest, 0)):
            if given < least:
                raise ValueError(f"`{name}` must be at least {least}, but {given} was given.")
        self.inner, self.fallback = inner, fallback
        self.window, self.checks, self.longest = window, checks, longest

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _LossGuardedState:
        inner = self.inner.init(params, key=key)
        return _LossGuardedState(
            inner=inner,
            inner_kept=inner,
            fallback=self.fallback.init(params, key=key),
            kept=trainable(params),
            level=jnp.zeros((), jnp.result_type(float)),
            mean=jnp.zeros((), jnp.result_type(float)),
            counted=jnp.zeros((), jnp.int32),
            phase=jnp.full((), _FALLBACK_HEAT, jnp.int32),
            clock=jnp.zeros((), jnp.int32),
            alone=jnp.zeros((), jnp.int32),
            streak=jnp.zeros((), jnp.int32),
            rejected=jnp.zeros((), jnp.int32),
        )

    def step(
        self, state: _LossGuardedState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_LossGuardedState, P]:
        if value is None:
            raise ValueError("`LossGuarded` compares losses, but no `value` was given. Call `step(..., value=loss)`.")
        matched = match(params, grads)
        inner, proposal = self.inner.step(state.inner, params, grads, value=value)
        fallback, safe = self.fallback.step(state.fallback, params, grads, value=value)
        now, kept = [leaf.param for leaf in matched.leaves], matched.pick(state.kept)

        inner_drives = (state.phase == _INNER_HEAT) | (state.phase == _INNER_ALONE)
        fallback_alone = state.phase == _FALLBACK_ALONE
        moving = state.clock < self.window
        finite = jnp.isfinite(value) & all_finite([leaf.grad for leaf in matched.leaves])
        proposed = select(inner_drives, matched.pick(proposal), matched.pick(safe))
        inner_sound, fallback_sound = ~spoiled(state.inner, inner), ~spoiled(state.fallback, fallback)
        moves = moving & finite & ~spoiled(now, proposed) & jnp.where(inner_drives, inner_sound, fallback_sound)
        end = select(moves, proposed, now)
        inner = select(moves & inner_sound & (inner_drives | fallback_alone), inner, state.inner)
        fallback = select(moves & ~inner_drives, fallback, state.fallback)

        # A heat ends with its last check, at once where the inner rule fails, and without checks where it is not asked.
        highest = jnp.finfo(state.mean.dtype).max
        checked = finite & ~moving
        counted = state.counted + checked.astype(jnp.int32)
        # A mean of the checks that are finite.
        count = jnp.maximum(counted, 1).astype(state.mean.dtype)
        change = (jnp.where(checked, value, 0).astype(state.mean.dtype) - state.mean) / count
        mean = jnp.minimum(jnp.where(checked, state.mean + change, state.mean), highest)
        failed = inner_drives & jnp.where(moving, ~moves, ~finite)
        over = failed | (state.clock + 1 == jnp.where(fallback_alone, self.window, self.window + self.checks))
        asked = over & ~fallback_alone
        loss = jnp.where(failed | (asked & (counted == 0)), highest, mean)

        race_over = over & (state.phase == _INNER_HEAT)
        won = race_over & (loss < state.level)
        lost = race_over & ~won
        worse = over & (state.phase == _INNER_ALONE) & ~(loss <= state.level)
        turn = over & (state.phase == _FALLBACK_HEAT)
        back = lost | worse

        # Wins of the inner rule count up, those of the fallback down.
        streak = jnp.where(won, jnp.maximum(state.streak, 0) + 1, state.streak)
        streak = jnp.where(lost, jnp.minimum(state.streak, 0) - 1, streak)
        streak = jnp.clip(jnp.where(worse, 0, streak), -20, 20).astype(jnp.int32)
        earned = jnp.minimum(jnp.left_shift(1, jnp.maximum(jnp.abs(streak) - 1, 0)) - 1, self.longest)
        alone = jnp.where(race_over, earned, jnp.where(worse, 0, state.alone - 1))
        following = jnp.where(alone > 0, jnp.where(inner_drives & ~lost, _INNER_ALONE, _FALLBACK_ALONE), _FALLBACK_HEAT)
        following = jnp.where(turn, _INNER_HEAT, following)

        new = select(turn | back, kept, end)
        new_inner = select(back, state.inner_kept, inner)
        new_kept = select(turn, end, new)
        updated = _LossGuardedState(
            inner=new_inner,
            inner_kept=select(over, new_inner, state.inner_kept),
            fallback=fallback,
            kept=matched.put(state.kept, select(over, new_kept, kept)),
            level=jnp.where(over & ~back, loss, state.level),
            mean=jnp.where(over, 0, mean),
            counted=jnp.where(over, 0, counted).astype(jnp.int32),
            phase=jnp.where(over, following, state.phase).astype(jnp.int32),
            clock=jnp.where(over, 0, state.clock + 1).astype(jnp.int32),
            alone=jnp.where(over & ~turn, alone, state.alone).astype(jnp.int32),
            streak=streak,
            rejected=state.rejected + back.astype(jnp.int32),
        )
        return updated, matched.rebuild(new)
