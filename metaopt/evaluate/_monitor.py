"""What an optimization run looks like while it runs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, ScalarLike

from .._core.arrays._buffers import own
from .._core.arrays._numbers import check_counts
from .._core.arrays._trees import global_norm, select, trainable
from ._accumulators import Average, Increments, Slope, Thinned, Windows, nan, none_yet, thinned, windows, zero
from ._curves import quartiles
from ._report import report
from ._text import figure


# Gradients of fewer numbers cost next to nothing to look at.
_FREE = 100_000


class MonitorState(eqx.Module):
    """What a [`metaopt.evaluate.Monitor`][] has accumulated. Its size does not depend on the length of the run."""

    count: Int[Array, ""]
    nonfinite: Int[Array, ""]
    first: Float[Array, ""]
    best: Float[Array, ""]
    best_step: Int[Array, ""]
    value: Average
    gradient_norm: Average
    update_norm: Average
    path_length: Float[Array, ""]
    slope: Slope
    increments: Increments
    params: PyTree
    trajectory: Thinned
    windows: Windows
    gradients: Int[Array, ""]
    seconds: Float[Array, ""]
    stagnated_at: Int[Array, ""]
    diverged_at: Int[Array, ""]


class Trace(eqx.Module):
    """A thinned record of a run, as numpy arrays. States that were batched by `jax.vmap` give batched traces."""

    steps: Int[np.ndarray, " records"]
    values: Float[np.ndarray, "*batch records"]
    gradient_norms: Float[np.ndarray, "*batch records"]


class Monitor(eqx.Module):
    r"""Watch a run from inside `jax.lax.scan` (or any other loop): a pure accumulator of constant size.

    ```python
    import jax.numpy as jnp
    import metaopt

    monitor = metaopt.evaluate.Monitor()
    state = monitor.init()
    for step in range(20):
        state = monitor.update(state, value=jnp.exp(-0.5 * step))
    print(monitor.report(state))
    ```

    From the values $v_t$ at parameters $\theta_t$ it computes:

    - *convergence rate*: minus the slope of the least-squares line through $\log (v_t - \mathrm{floor})$ over $t$: $c$
        for $v_t = a e^{-ct}$, 0 for a plateau. Values without a logarithm are left out. Its error is that of the
        regression for independent residuals; those of a real run are not, and then it is too small.
    - *rise share*: the share of steps that increased the value, and *log variance*, the variance of the increments of
        $\log (v_t - \mathrm{floor})$. Both are 0 for an exponential decay; a nervous run has large ones.
    - *efficiency*: progress per unit of path length,
        $(v_0 - v_t) \, / \sum_{i \le t} \lVert \theta_i - \theta_{i-1} \rVert$, and per step, gradient and second.
    - *stagnation*: the mean over the last $w$ values is not lower than that over the $w$ before by more than the share
        `tolerance` of its height above the floor, nor by more than twice the standard error of the difference.
    - *divergence*: the mean over the last $w$ values is higher than that over the $w$ before, by more than twice that
        error, and its height is more than twice that of the lowest mean so far; or a value was not finite.
    - the best, first and last value, and exponential moving averages of the value, of the norm of the gradient and of
        the norm of the update.
    - how many updates were not finite. Their values and gradients are counted and otherwise left out.

    **Arguments:**

    - `capacity`: how many records the thinned trajectory holds at most; even.
    - `decay`: the decay of the moving averages.
    - `floor`: a lower bound of the values, subtracted before taking logarithms.
    - `window`: $w$.
    - `tolerance`: the progress below which a run stagnates.
    - `norm_every`: in every how many steps the norm of the gradient is taken, which reads all of it; in between, the
        last one counts. By default in every step, but every eighth for gradients of more than 100,000 numbers.

    **Raises:**

    - `ValueError`: if `capacity` is odd or below 2, `decay` is not in $[0, 1)$, `window` is below 2, or `norm_every`
        below 1.
    """

    capacity: int = eqx.field(static=True, default=256)
    decay: float = eqx.field(static=True, default=0.98)
    floor: float = eqx.field(static=True, default=0.0)
    window: int = eqx.field(static=True, default=8)
    tolerance: float = eqx.field(static=True, default=1e-3)
    norm_every: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.capacity < 2 or self.capacity % 2:
            raise ValueError(f"`capacity` must be an even number of at least 2, but {self.capacity} was given.")
        if not 0 <= self.decay < 1:
            raise ValueError(f"`decay` must be at least 0 and below 1, but {self.decay} was given.")
        if self.window < 2:
            raise ValueError(f"`window` must be at least 2, but {self.window} was given.")
        check_counts(norm_every=self.norm_every)

    def init(self, params: PyTree | None = None) -> MonitorState:
        """Make an empty state.

        **Arguments:**

        - `params`: give parameters here (their values do not matter) to have steps and path lengths monitored; then
            `update` needs `params`, too. The state holds a copy of them.
        """
        return MonitorState(
            count=none_yet(),
            nonfinite=none_yet(),
            first=nan(),
            best=nan(),
            best_step=none_yet(),
            value=Average(),
            gradient_norm=Average(),
            update_norm=Average(),
            path_length=zero(),
            slope=Slope(),
            increments=Increments(),
            params=None if params is None else own(trainable(params), params),
            trajectory=thinned(self.capacity, 2),
            windows=windows(self.window),
            gradients=none_yet(),
            seconds=zero(),
            stagnated_at=none_yet() - 1,
            diverged_at=none_yet() - 1,
        )

    def update(
        self,
        state: MonitorState,
        *,
        value: ScalarLike,
        grads: PyTree | None = None,
        params: PyTree | None = None,
        gradients: int | Int[Array, ""] = 1,
        seconds: ScalarLike | None = None,
    ) -> MonitorState:
        """Account for one step. Pure; usable under `jax.jit`, `jax.vmap` and `jax.lax.scan`.

        **Arguments:**

        - `state`: from `init` or the update before.
        - `value`: the loss.
        - `grads`: the gradient there.
        - `params`: the parameters there.
        - `gradients`: how many gradients the step cost.
        - `seconds`: how long the step took, if the loop is one that can tell.

        **Raises:**

        - `ValueError`: if `params` is given here and not to `init`, or the other way around.
        """
        if (params is None) != (state.params is None):
            raise ValueError(
                "`params` must be given to both `Monitor.init` and `Monitor.update`, or to neither, but it was given "
                f"to `{'init' if params is None else 'update'}` alone."
            )
        dtype = state.first.dtype
        value = jnp.asarray(value).astype(dtype)
        norm, taken = self._norm(state, grads)
        finite = jnp.isfinite(value)
        bad = ~finite | (taken & ~jnp.isfinite(norm))
        height = value - self.floor
        log = jnp.where(height > 0, jnp.log(jnp.where(height > 0, height, 1)), jnp.nan)
        better = finite & ~(value >= state.best)
        state = self._move(state, params)
        seen = state.windows.add(value, finite)
        stagnates, diverges = self._judge(seen)
        return MonitorState(
            count=state.count + 1,
            nonfinite=state.nonfinite + bad.astype(jnp.int32),
            first=jnp.where(finite & jnp.isnan(state.first), value, state.first),
            best=jnp.where(better, value, state.best),
            best_step=jnp.where(better, state.count, state.best_step),
            value=state.value.add(value, self.decay, finite),
            gradient_norm=state.gradient_norm.add(norm, self.decay, taken & jnp.isfinite(norm)),
            update_norm=state.update_norm,
            path_length=state.path_length,
            slope=state.slope.add(state.count.astype(dtype), log, finite & ~jnp.isnan(log)),
            increments=state.increments.add(value, log, finite),
            params=state.params,
            trajectory=state.trajectory.add(state.count, jnp.stack([value, norm])),
            windows=seen,
            gradients=state.gradients + jnp.asarray(gradients, jnp.int32),
            seconds=state.seconds + jnp.asarray(jnp.nan if seconds is None else seconds, dtype),
            stagnated_at=_since(state.stagnated_at, stagnates, state.count),
            diverged_at=_since(state.diverged_at, diverges | ~finite, state.count),
        )

    def _norm(self, state: MonitorState, grads: PyTree) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """The norm of the gradient, and whether it was taken now."""
        last = state.gradient_norm.last
        if grads is None:
            return last, jnp.asarray(False)
        size = sum(x.size for x in jtu.tree_leaves(grads) if eqx.is_inexact_array(x))
        every = (1 if size <= _FREE else 8) if self.norm_every is None else self.norm_every
        if every == 1:
            return global_norm(grads).astype(last.dtype), jnp.asarray(True)
        due = state.count % every == 0
        return jax.lax.cond(due, lambda: global_norm(grads).astype(last.dtype), lambda: last), due

    def _judge(self, seen: Windows) -> tuple[Bool[Array, "..."], Bool[Array, "..."]]:
        before, after = seen.means
        noise = 2 * seen.uncertainty
        height = jnp.abs(before - self.floor)
        stagnates = seen.full & (before - after <= jnp.maximum(self.tolerance * height, jnp.minimum(noise, height)))
        # A value at the floor has no height, and twice of nothing is nothing.
        high = after - self.floor > 2 * (seen.lowest - self.floor) + 1e-12
        diverges = seen.full & (after - before > noise) & high
        return stagnates & ~diverges, diverges

    def _move(self, state: MonitorState, params: PyTree | None) -> MonitorState:
        if params is None:
            return state
        current = trainable(params)
        norm = global_norm(jtu.tree_map(lambda new, old: new - old, current, state.params))
        norm = norm.astype(state.path_length.dtype)
        # The parameters given to `init` only stand for their shapes.
        first, finite = state.count == 0, jnp.isfinite(norm)
        moved = state.update_norm.add(norm, self.decay, finite & ~first)
        length = state.path_length + jnp.where(finite & ~first, norm, 0)
        current = select(finite | first, current, state.params)
        return eqx.tree_at(lambda s: (s.update_norm, s.path_length, s.params), state, (moved, length, current))

    def summary(self, state: MonitorState) -> dict[str, Array]:
        """All metrics by name: scalars, or arrays for a batch of states. NaN where there is nothing to tell. Pure."""
        path_length = state.path_length if state.params is not None else nan()
        gained = state.first - state.value.last
        return {
            "count": state.count,
            "first": state.first,
            "last": state.value.last,
            "average": state.value.mean,
            "best": state.best,
            "best_step": state.best_step,
            "convergence_rate": -state.slope.slope,
            "convergence_rate_error": state.slope.error,
            "rise_share": state.increments.rise_share,
            "log_variance": state.increments.log_variance,
            "gradient_norm": state.gradient_norm.last,
            "average_gradient_norm": state.gradient_norm.mean,
            "update_norm": state.update_norm.last,
            "average_update_norm": state.update_norm.mean,
            "path_length": path_length,
            "efficiency": (state.first - state.value.last) / path_length,
            "progress_per_step": gained / state.count.astype(gained.dtype),
            "progress_per_gradient": gained / state.gradients.astype(gained.dtype),
            "progress_per_second": gained / state.seconds,
            "nonfinite": state.nonfinite,
            "stagnated_at": state.stagnated_at,
            "diverged_at": state.diverged_at,
        }

    def advice(self, state: MonitorState) -> list[str]:
        """What to do about a single run, in sentences; none if it goes well."""
        found, diverged, stagnated = [], int(state.diverged_at), int(state.stagnated_at)
        if int(state.nonfinite) > 0:
            found.append(
                f"{int(state.nonfinite)} values or gradients were not finite: lower the learning rate, or wrap the "
                "algorithm in `ClipByGlobalNorm` or `SkipNonFinite`."
            )
        elif diverged >= 0:
            found.append(
                f"The loss rises since step {diverged}: lower the learning rate, clip gradients with "
                f"`ClipByGlobalNorm`, or go back to the best point, at step {int(state.best_step)}."
            )
        if stagnated >= 0:
            what = "stop here, lower the learning rate with `schedules.Plateau`, or take larger minibatches."
            if bool(state.gradient_norm.mean < 1e-6):
                what = "gradients have vanished, so this is a stationary point; stop here, or start elsewhere."
            found.append(f"The loss has stopped to fall since step {stagnated}: {what}")
        return found

    def trace(self, state: MonitorState) -> Trace:
        """The thinned trajectory, for [`metaopt.evaluate.plot`][].

        **Raises:**

        - `ValueError`: if the states of a batch have seen different numbers of steps.
        """
        counts, strides = np.unique(np.asarray(state.count)), np.unique(np.asarray(state.trajectory.stride))
        if counts.size != 1 or strides.size != 1:
            raise ValueError(f"The states of a batch must have seen equally many steps, but counted {counts.tolist()}.")
        steps = np.arange(0, counts[0], strides[0])
        rows = np.asarray(state.trajectory.rows)[..., : steps.size, :]
        return Trace(steps, rows[..., 0], rows[..., 1])

    def report(self, state: MonitorState, *, title: str | None = None) -> str:
        """The summary as text; for a batch of states, each median with the quartiles."""
        metrics = eqx.filter_jit(self.summary)(state)
        return report({name: _shown(np.asarray(metric)) for name, metric in metrics.items()}, title=title)


def _since(at: Int[Array, ""], now: Bool[Array, ""], count: Int[Array, ""]) -> Int[Array, ""]:
    """The step at which a state that still lasts began; -1 if there is none."""
    return jnp.where(now, jnp.where(at < 0, count, at), -1)


def _shown(metric: np.ndarray) -> str:
    def text(number: Any) -> str:
        whole = metric.dtype.kind in "iu" and float(number).is_integer()
        return str(int(number)) if whole else figure(float(number), 5)

    if metric.ndim == 0:
        return text(metric.item())
    lower, upper = quartiles(metric.reshape(-1).astype(float))
    return f"{text(np.median(metric))} ({text(lower)} .. {text(upper)})"
