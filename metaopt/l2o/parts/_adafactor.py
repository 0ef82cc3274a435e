"""Averages of gradients, among them the factored ones of Adafactor, and the features that are made of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...backend import Feature, per_tensor
from ._common import average, complement, log_complement


class Elements(NamedTuple):
    """What is remembered of each element."""

    momenta: Float[Array, "k *p"]
    second: Float[Array, "*p"]


class Averages(NamedTuple):
    """Averages of one tensor. The factored ones keep the axis that they are a mean over, with size 1; a tensor of
    less than two axes has the whole second moment in `rows`."""

    elements: Elements
    rows: Float[Array, "f ..."]
    cols: Float[Array, "f ..."] | None


class Reading(eqx.Module):
    """What is read of a tensor: the gradient, averages over rows and columns with Adafactor's factors of them, and the
    weights of new values in the other averages."""

    grad: Float[Array, "*p"]
    rows: Float[Array, "f ..."]
    cols: Float[Array, "f ..."] | None
    row_factors: Float[Array, "f ..."]
    col_factors: Float[Array, "f ..."] | None
    fresh: Float[Array, "k ..."]
    fresh_second: Float[Array, ""]


class Averager(eqx.Module):
    r"""The decays of all averages, as leaves $\log(1 - \beta)$."""

    momentum_decays: Float[Array, " k"]
    second_decay: Float[Array, ""]
    factored_decays: Float[Array, " k"]

    @staticmethod
    def create(momentum_decays: Sequence[float], second_decay: float, factored_decays: Sequence[float]) -> "Averager":
        """Check decays.

        **Raises:**

        - `ValueError`: if one is not in $[0, 1)$, or there are not as many factored ones as momenta.
        """
        if len(momentum_decays) != len(factored_decays):
            raise ValueError(
                f"`momentum_decays` and `factored_decays` are used in pairs, but {len(momentum_decays)} and "
                f"{len(factored_decays)} of them were given."
            )
        return Averager(
            log_complement(momentum_decays, "momentum_decays"),
            log_complement(second_decay, "second_decay"),
            log_complement(factored_decays, "factored_decays"),
        )

    @property
    def pairs(self) -> int:
        """How many momenta there are, and how many factored averages."""
        return self.momentum_decays.size

    def init(self, param: Float[Array, "*p"]) -> Averages:
        """Averages of nothing, which are zero."""

        def zeros(k: int, summed: int | None = None) -> Array:
            shape = [1 if axis == summed else n for axis, n in enumerate(param.shape)]
            return jnp.zeros((k, *shape), param.dtype)

        axes = factored_axes(param.shape)
        row_axis, col_axis = (None, None) if axes is None else axes
        return Averages(
            Elements(zeros(self.pairs), jnp.zeros_like(param)),
            zeros(self.pairs, col_axis),
            None if row_axis is None else zeros(self.pairs, row_axis),
        )

    def read(self, old: Averages, grad: Float[Array, "*p"]) -> Reading:
        """Update the averages over rows and columns of one tensor."""
        weights = complement(self.factored_decays, grad)
        axes = factored_axes(grad.shape)
        if axes is None or old.cols is None:
            rows, cols = average(weights, old.rows, jnp.square(grad) + 1e-30), old.cols
            row_factors, col_factors = rows, None
        else:
            row_axis, col_axis = axes
            # Two sums that each square what they read; one square for both would be written to memory.
            rows = average(weights, old.rows, _mean(jnp.square(grad), col_axis) + 1e-30)
            cols = average(weights, old.cols, _mean(jnp.square(jax.lax.optimization_barrier(grad)), row_axis) + 1e-30)
            row_factors = _root(rows / (_mean(rows, row_axis + 1) + 1e-9))
            col_factors = _root(cols)
        return Reading(
            grad,
            rows,
            cols,
            row_factors,
            col_factors,
            per_tensor(complement(self.momentum_decays, grad), grad.shape),
            complement(self.second_decay, grad),
        )


def observe(old: Elements, x: Reading) -> Elements:
    """Update the averages of each element."""
    momenta = old.momenta + x.fresh * (x.grad[None] - old.momenta)
    return Elements(momenta, old.second + x.fresh_second * (jnp.square(x.grad) - old.second))


class Groups(NamedTuple):
    """The features, by kind. The factored ones are rows and columns, their inverse roots, and scaled momenta."""

    grad: Feature
    param: Feature
    momenta: list[Feature]
    second: Feature
    normalized: list[Feature]
    root: Feature
    scaled: list[Feature]
    factored: list[Feature]


def feature_groups(
    param: Float[Array, "*p"],
    elements: Elements,
    x: Reading,
    *,
    epsilon: float = 1e-6,
    vector_factor: Callable[[Any], Any],
) -> Groups:
    """Make the features that all rules with Adafactor's averages have, elementwise.

    **Arguments:**

    - `param`, `elements`, `x`: what is known of a tensor.
    - `epsilon`: is added to the second moment before its inverse root is taken.
    - `vector_factor`: of a second moment, what momenta are scaled by in a tensor of less than two axes.
    """
    grad, v, momenta = x.grad, elements.second, list(elements.momenta)
    root, inverse = jax.lax.rsqrt(v + epsilon), 1 / (v + epsilon)
    rows = list(x.rows)
    if x.cols is None or x.col_factors is None:
        cols = rows
        grad_factors = [_root(r + 1e-9) for r in rows]
        momentum_factors = [vector_factor(r) for r in rows]
    else:
        cols = list(x.cols)
        grad_factors = [r * c for r, c in zip(x.row_factors, x.col_factors, strict=True)]
        momentum_factors = grad_factors
    return Groups(
        Feature(grad),
        Feature(param),
        [Feature(m) for m in momenta],
        Feature(v),
        [Feature(m * root, m * m * inverse) for m in momenta],
        Feature(root, inverse),
        [Feature(grad * f) for f in grad_factors],
        [
            *[Feature(r) for r in rows],
            *[Feature(c) for c in cols],
            *[Feature(jax.lax.rsqrt(r + 1e-8), 1 / (r + 1e-8)) for r in rows],
            *[Feature(jax.lax.rsqrt(c + 1e-8), 1 / (c + 1e-8)) for c in cols],
            *[Feature(m * f) for m, f in zip(momenta, momentum_factors, strict=True)],
        ],
    )


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The second largest and the largest axis, if there are two."""
    if len(shape) < 2:
        return None
    order = np.argsort(shape, kind="stable")
    return int(order[-2]), int(order[-1])


def _mean(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The mean along an axis, which is kept; zero if there is nothing along it."""
    return jnp.sum(x, axis=axis, keepdims=True) / max(x.shape[axis], 1)


def _root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jax.lax.rsqrt(jnp.maximum(x, 1e-9))
