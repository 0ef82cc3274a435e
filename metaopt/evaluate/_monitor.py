"""What an optimization run looks like while it runs."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, ScalarLike

from .._core._trees import global_norm, select, trainable
from ._accumulators import Average, Increments, Slope, Thinned, nan, none_yet, thinned, zero
from ._curves import quartiles
from ._report import report
from ._text import figure


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
        for $v_t = a e^{-ct}$, 0 for a plateau. Values without a logarithm are left out.
    - *rise share*: the share of steps that increased the value, and *log variance*, the variance of the increments of
        $\log (v_t - \mathrm{floor})$. Both are 0 for an exponential decay; a nervous run has large ones.
    - *efficiency*: progress per unit of path length,
        $(v_0 - v_t) \, / \sum_{i \le t} \lVert \theta_i - \theta_{i-1} \rVert$.
    - the best, first and last value, and exponential moving averages of the value, of the norm of the gradient and of
        the norm of the update.
    - how many updates were not finite. Their values and gradients are counted and otherwise left out.

    **Arguments:**

    - `capacity`: how many records the thinned trajectory holds at most; even.
    - `decay`: the decay of the moving averages.
    - `floor`: a lower bound of the values, subtracted before taking logarithms.

    **Raises:**

    - `ValueError`: if `capacity` is odd or below 2, or `decay` is not in $[0, 1)$.
    """

    capacity: int = eqx.field(static=True, default=256)
    decay: float = eqx.field(static=True, default=0.98)
    floor: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        if self.capacity < 2 or self.capacity % 2:
            raise ValueError(f"`capacity` must be an even number of at least 2, but {self.capacity} was given.")
        if not 0 <= self.decay < 1:
            raise ValueError(f"`decay` must be at least 0 and below 1, but {self.decay} was given.")

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
            params=None if params is None else trainable(params),
            trajectory=thinned(self.capacity, 2),
        )

    def update(
        self, state: MonitorState, *, value: ScalarLike, grads: PyTree | None = None, params: PyTree | None = None
    ) -> MonitorState:
        """Account for one step. Pure; usable under `jax.jit`, `jax.vmap` and `jax.lax.scan`.

        **Arguments:**

        - `state`: from `init` or the update before.
        - `value`: the loss.
        - `grads`: the gradient there.
        - `params`: the parameters there.

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
        norm = nan() if grads is None else global_norm(grads).astype(dtype)
        finite = jnp.isfinite(value)
        bad = ~finite if grads is None else ~finite | ~jnp.isfinite(norm)
        height = value - self.floor
        log = jnp.where(height > 0, jnp.log(jnp.where(height > 0, height, 1)), jnp.nan)
        better = finite & ~(value >= state.best)
        state = self._move(state, params)
        return MonitorState(
            count=state.count + 1,
            nonfinite=state.nonfinite + bad.astype(jnp.int32),
            first=jnp.where(finite & jnp.isnan(state.first), value, state.first),
            best=jnp.where(better, value, state.best),
            best_step=jnp.where(better, state.count, state.best_step),
            value=state.value.add(value, self.decay, finite),
            gradient_norm=state.gradient_norm.add(norm, self.decay, jnp.isfinite(norm)),
            update_norm=state.update_norm,
            path_length=state.path_length,
            slope=state.slope.add(state.count.astype(dtype), log, finite & ~jnp.isnan(log)),
            increments=state.increments.add(value, log, finite),
            params=state.params,
            trajectory=state.trajectory.add(state.count, jnp.stack([value, norm])),
        )

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
        return {
            "count": state.count,
            "first": state.first,
            "last": state.value.last,
            "average": state.value.mean,
            "best": state.best,
            "best_step": state.best_step,
            "convergence_rate": -state.slope.slope,
            "rise_share": state.increments.rise_share,
            "log_variance": state.increments.log_variance,
            "gradient_norm": state.gradient_norm.last,
            "average_gradient_norm": state.gradient_norm.mean,
            "update_norm": state.update_norm.last,
            "average_update_norm": state.update_norm.mean,
            "path_length": path_length,
            "efficiency": (state.first - state.value.last) / path_length,
            "nonfinite": state.nonfinite,
        }

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


def _shown(metric: np.ndarray) -> str:
    def text(number: Any) -> str:
        whole = metric.dtype.kind in "iu" and float(number).is_integer()
        return str(int(number)) if whole else figure(float(number), 5)

    if metric.ndim == 0:
        return text(metric.item())
    lower, upper = quartiles(metric.reshape(-1).astype(float))
    return f"{text(np.median(metric))} ({text(lower)} .. {text(upper)})"
