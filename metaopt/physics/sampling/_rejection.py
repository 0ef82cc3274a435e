"""Points of a domain of any form."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..base import AbstractDomain, AbstractSampler


# Candidates for each point that is wanted: on average enough where an eighth of them is accepted.
OVERSAMPLING = 8


def accepted(mask: Bool[Array, " n"], count: int, message: str) -> Int[Array, "{count}"]:
    """Indices of the first `count` places where a mask holds, in order; they repeat if there are fewer.

    **Raises:**

    - `ValueError`-like: an error of `equinox.error_if` with `message`, if there are none.
    """
    order = jnp.argsort(~mask, stable=True)
    found = jnp.sum(mask)
    found = eqx.error_if(found, found == 0, message)
    return order[jnp.arange(count) % found]


def rejection(
    domain: AbstractDomain,
    count: int,
    *,
    key: PRNGKeyArray,
    sampler: AbstractSampler,
    inside: Callable[[Float[Array, "n d"]], Bool[Array, " n"]] | None = None,
) -> Float[Array, "{count} d"]:
    """Points of the box around a domain that lie inside. A domain that fills less than an eighth of it gets repeats."""
    lower, upper = domain.bounds()
    unit = sampler.unit(OVERSAMPLING * count + 64, domain.dimension, key=key).astype(lower.dtype)
    candidates = lower[None] + unit * (upper - lower)[None]
    mask = domain.contains(candidates) if inside is None else inside(candidates)
    message = (
        f"`{type(domain).__name__}` has no interior: none of {mask.shape[0]} points of the box around it is inside."
    )
    return candidates[accepted(mask, count, message)]
