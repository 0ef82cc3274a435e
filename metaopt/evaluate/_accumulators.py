"""Running statistics in constant memory, as values."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core.arrays._trees import select


def zero() -> Float[Array, ""]:
    return jnp.zeros((), jnp.result_type(float))


def nan() -> Float[Array, ""]:
    return jnp.full((), jnp.nan, jnp.result_type(float))


def none_yet() -> Int[Array, ""]:
    return jnp.zeros((), jnp.int32)


class Average(eqx.Module):
    r"""The last number and an exponential moving average without bias to its start,

    $$\bar x_n = \frac{\sum_i \beta^{n - i} x_i}{\sum_i \beta^{n - i}}.$$
    """

    last: Float[Array, ""] = eqx.field(default_factory=nan)
    total: Float[Array, ""] = eqx.field(default_factory=zero)
    weight: Float[Array, ""] = eqx.field(default_factory=zero)

    def add(self, x: Float[Array, ""], decay: float, use: Bool[Array, ""]) -> "Average":
        new = Average(x, decay * self.total + x, decay * self.weight + 1)
        return select(use, new, self)

    @property
    def mean(self) -> Float[Array, "..."]:
        return self.total / self.weight


class Slope(eqx.Module):
    """The slope of the least-squares line through points, by updates of means and central moments (Welford)."""

    count: Int[Array, ""] = eqx.field(default_factory=none_yet)
    mean_x: Float[Array, ""] = eqx.field(default_factory=zero)
    mean_y: Float[Array, ""] = eqx.field(default_factory=zero)
    xx: Float[Array, ""] = eqx.field(default_factory=zero)
    yy: Float[Array, ""] = eqx.field(default_factory=zero)
    xy: Float[Array, ""] = eqx.field(default_factory=zero)

    def add(self, x: Float[Array, ""], y: Float[Array, ""], use: Bool[Array, ""]) -> "Slope":
        count = self.count + 1
        number = count.astype(x.dtype)
        dx, dy = x - self.mean_x, y - self.mean_y
        mean_x, mean_y = self.mean_x + dx / number, self.mean_y + dy / number
        xx, yy, xy = self.xx + dx * (x - mean_x), self.yy + dy * (y - mean_y), self.xy + dx * (y - mean_y)
        return select(use, Slope(count, mean_x, mean_y, xx, yy, xy), self)

    @property
    def slope(self) -> Float[Array, "..."]:
        return jnp.where(self.count > 1, self.xy / self.xx, jnp.nan)

    @property
    def error(self) -> Float[Array, "..."]:
        """The standard error of the slope, if residuals are independent."""
        free = (self.count - 2).astype(self.xx.dtype)
        rest = jnp.maximum(self.yy - self.xy**2 / self.xx, 0)
        return jnp.where(self.count > 2, jnp.sqrt(rest / jnp.where(free > 0, free, 1) / self.xx), jnp.nan)


class Windows(eqx.Module):
    """The last numbers of a sequence, as two windows of one length, and the lowest mean that a window had."""

    recent: Float[Array, " both"]
    count: Int[Array, ""] = eqx.field(default_factory=none_yet)
    lowest: Float[Array, ""] = eqx.field(default_factory=nan)

    def add(self, x: Float[Array, ""], use: Bool[Array, ""]) -> "Windows":
        recent = jnp.concatenate([self.recent[1:], x[None]])
        count = self.count + 1
        mean = jnp.mean(recent[recent.size // 2 :])
        lower = (count >= recent.size // 2) & ~(mean >= self.lowest)
        return select(use, Windows(recent, count, jnp.where(lower, mean, self.lowest)), self)

    @property
    def full(self) -> Bool[Array, "..."]:
        return self.count >= self.recent.shape[-1]

    @property
    def means(self) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Of the older and of the newer window."""
        half = self.recent.shape[-1] // 2
        return jnp.mean(self.recent[..., :half], axis=-1), jnp.mean(self.recent[..., half:], axis=-1)

    @property
    def uncertainty(self) -> Float[Array, "..."]:
        """The standard error of the difference between the means, from differences of neighbors without their trend."""
        steps = jnp.diff(self.recent, axis=-1)
        steps = steps - jnp.mean(steps, axis=-1, keepdims=True)
        return jnp.sqrt(2 * jnp.mean(jnp.square(steps), axis=-1) / self.recent.shape[-1])


def windows(length: int) -> Windows:
    """Two empty windows."""
    return Windows(jnp.zeros(2 * length, jnp.result_type(float)))


class Increments(eqx.Module):
    """How often a sequence rose, and the variance of the increments of its logarithm."""

    previous: Float[Array, ""] = eqx.field(default_factory=nan)
    previous_log: Float[Array, ""] = eqx.field(default_factory=nan)
    count: Int[Array, ""] = eqx.field(default_factory=none_yet)
    rises: Int[Array, ""] = eqx.field(default_factory=none_yet)
    logs: Int[Array, ""] = eqx.field(default_factory=none_yet)
    mean: Float[Array, ""] = eqx.field(default_factory=zero)
    squares: Float[Array, ""] = eqx.field(default_factory=zero)

    def add(self, x: Float[Array, ""], log: Float[Array, ""], use: Bool[Array, ""]) -> "Increments":
        """`log` is NaN where `x` has no logarithm."""
        first = jnp.isnan(self.previous)
        increment = log - self.previous_log
        counts = ~jnp.isnan(increment)
        logs = self.logs + counts.astype(jnp.int32)
        difference = jnp.where(counts, increment - self.mean, 0)
        mean = self.mean + difference / jnp.maximum(logs, 1).astype(x.dtype)
        squares = self.squares + difference * jnp.where(counts, increment - mean, 0)
        rises = self.rises + (x > self.previous).astype(jnp.int32)
        count = self.count + jnp.where(first, 0, 1).astype(jnp.int32)
        return select(use, Increments(x, log, count, rises, logs, mean, squares), self)

    @property
    def rise_share(self) -> Float[Array, "..."]:
        return self.rises.astype(self.mean.dtype) / self.count.astype(self.mean.dtype)

    @property
    def log_variance(self) -> Float[Array, "..."]:
        return self.squares / self.logs.astype(self.mean.dtype)


class Thinned(eqx.Module):
    """A sequence of unknown length in a buffer of fixed size.

    Every `stride`-th row is kept. When the buffer is full, every other row is dropped and the stride doubles.
    """

    rows: Float[Array, "capacity columns"]
    stride: Int[Array, ""]

    def add(self, index: Int[Array, ""], row: Float[Array, " columns"]) -> "Thinned":
        """Add the row with this index, counted from zero without gaps."""
        capacity, columns = self.rows.shape
        full = index == capacity * self.stride
        half = jnp.concatenate([self.rows[::2], jnp.full((capacity // 2, columns), jnp.nan, self.rows.dtype)])
        rows = jnp.where(full, half, self.rows)
        stride = jnp.where(full, 2 * self.stride, self.stride)
        # Rows that are not due are sent out of bounds, and dropped there.
        place = jnp.where(index % stride == 0, index // stride, capacity)
        return Thinned(rows.at[place].set(row, mode="drop"), stride)


def thinned(capacity: int, columns: int) -> Thinned:
    """An empty buffer."""
    return Thinned(jnp.full((capacity, columns), jnp.nan, jnp.result_type(float)), jnp.ones((), jnp.int32))
