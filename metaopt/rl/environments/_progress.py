"""What a policy sees of an optimization."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Scalar

from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import global_norm


_FRAME = 6


class _Seen(NamedTuple):
    """Sums over the steps since the last observation: of the logarithms of the loss and of the gradient's norm, of the
    squares of the former, and their number."""

    sums: Float[Array, "3"]
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    first: Float[Array, "2"]
    before: Float[Array, ""]
    began: Int[Array, ""]
    frames: Float[Array, "history frame"]


class Progress(eqx.Module):
    r"""How an optimization goes, as numbers of order one.

    At each decision, with averages over the steps since the one before, a frame of six: the share of the budget that
    is spent; the setting of what is controlled; $\log \bar v$ relative to its first and to its last value; the spread
    of $\log v$; and the logarithm of the norm of the gradient relative to its first value. Before the first step all
    but the first two are zero. Losses are taken by their absolute value, and what is not finite is left out.

    **Arguments:**

    - `history`: how many frames, the newest and those before, are observed together.

    **Raises:**

    - `ValueError`: if `history` is below 1.
    """

    history: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_counts(history=self.history)

    @property
    def size(self) -> int:
        """How many numbers an observation has."""
        return _FRAME * self.history

    def init(self) -> _Seen:
        """Nothing was seen."""
        none = jnp.zeros((), jnp.int32)
        return _Seen(jnp.zeros(3), none, jnp.zeros(2), jnp.zeros(()), jnp.copy(none), jnp.zeros((self.history, _FRAME)))

    def see(self, state: _Seen, value: Scalar | None, grads: PyTree) -> _Seen:
        """Take note of one step."""
        dtype = state.sums.dtype
        size = jnp.ones((), dtype) if value is None else jnp.abs(value).astype(dtype)
        logs = jnp.log(jnp.stack([size, global_norm(grads).astype(dtype)]) + 1e-12)
        good = jnp.all(jnp.isfinite(logs))
        logs = jnp.where(good, logs, 0)
        return eqx.tree_at(
            lambda s: (s.sums, s.count),
            state,
            (state.sums + jnp.stack([*logs, logs[0] ** 2]), state.count + good.astype(jnp.int32)),
        )

    def observe(
        self, state: _Seen, time: Float[Array, ""], setting: Float[Array, ""]
    ) -> tuple[_Seen, Float[Array, " size"]]:
        """Observe what was noted, and begin to take notes anew."""
        dtype = state.sums.dtype
        seen = state.count > 0
        mean = state.sums / jnp.maximum(state.count, 1).astype(dtype)
        first = jnp.where(state.began == 0, mean[:2], state.first)
        before = jnp.where(state.began == 0, mean[0], state.before)
        spread = jnp.sqrt(jnp.maximum(mean[2] - mean[0] ** 2, 1e-12))
        course = jnp.stack([mean[0] - first[0], mean[0] - before, spread, mean[1] - first[1]])
        course = jnp.where(seen, jnp.clip(course / 2, -5, 5), 0)
        frame = jnp.concatenate([jnp.stack([time.astype(dtype), setting.astype(dtype) / 2]), course])
        frames = jnp.concatenate([frame[None], state.frames[:-1]])
        new = _Seen(
            jnp.zeros_like(state.sums),
            jnp.zeros_like(state.count),
            jnp.where(seen, first, state.first),
            jnp.where(seen, mean[0], state.before),
            state.began + seen.astype(jnp.int32),
            frames,
        )
        return new, frames.reshape(-1)
