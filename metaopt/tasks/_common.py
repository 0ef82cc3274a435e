"""Mathematics and checks shared by the families."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._core.arrays._trees import compute_dtype


Activation = Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"]
Split = Literal["train", "held_out"]


def activation_function(name: Activation) -> Callable[[Array], Array]:
    return jnp.tanh if name == "tanh" else getattr(jax.nn, name)


def rotation(dimension: int, *, key: PRNGKeyArray) -> Float[Array, "{dimension} {dimension}"]:
    """Draw an orthogonal matrix from the Haar distribution."""
    q, r = jnp.linalg.qr(jr.normal(key, (dimension, dimension)))
    # Without these signs the distribution would depend on the conventions of the factorization.
    signs = jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)
    return q * signs[None, :]


def draw_indices(size: int, count: int, *, key: PRNGKeyArray) -> Int[Array, "{count}"]:
    """Draw indices below `size` with replacement.

    One draw of random bits; `jax.random.randint` makes two and splits the key, to remove a bias below `size / 2**32`.
    """
    bits = jr.bits(key, (count,), jnp.uint32)
    return jax.lax.rem(bits, jnp.full((), size, jnp.uint32)).astype(jnp.int32)


def rows(table: Array, indices: Int[Array, " n"]) -> Array:
    """Take rows whose indices are known to be in range."""
    return table.at[indices].get(mode="promise_in_bounds")


def cross_entropy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    r"""The mean of $\log \sum_c e^{z_c} - z_y$, in at least 32 bits."""
    return jnp.mean(cross_entropies(logits, labels))


def cross_entropies(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """The cross-entropy of each example."""
    logits = logits.astype(compute_dtype(logits.dtype))
    shifted = logits - jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    # A mask rather than an index: the gradient of indexing is a scatter.
    hit = labels[:, None] == jnp.arange(logits.shape[1], dtype=labels.dtype)[None, :]
    chosen = jnp.sum(jnp.where(hit, shifted, jnp.zeros_like(shifted)), axis=1)
    return jnp.log(jnp.sum(jnp.exp(shifted), axis=1)) - chosen


def mean_squared_error(outputs: Float[Array, "n d"], targets: Float[Array, "n d"]) -> Float[Array, ""]:
    """The mean over points and outputs, in at least 32 bits."""
    dtype = compute_dtype(outputs.dtype)
    return jnp.mean(jnp.square(outputs.astype(dtype) - targets.astype(dtype)))


def check_at_least(name: str, value: int | float, lowest: int | float) -> None:
    if not lowest <= value < math.inf:
        raise ValueError(f"`{name}` must be a finite number of at least {lowest}, but {value!r} was given.")


def check_above(name: str, value: int | float, bound: int | float) -> None:
    if not bound < value < math.inf:
        raise ValueError(f"`{name}` must be a finite number above {bound}, but {value!r} was given.")


def check_range(low: float, high: float) -> None:
    """Check the ends of a range on a logarithmic scale."""
    if not 0 < low <= high < math.inf:
        raise ValueError(f"`low` and `high` must satisfy 0 < low <= high, but {low!r} and {high!r} were given.")


def check_sizes(name: str, sizes: Any, fewest: int = 0) -> None:
    """Check a tuple of layer sizes."""
    fine = isinstance(sizes, tuple) and all(isinstance(size, int) and size > 0 for size in sizes)
    if not fine or len(sizes) < fewest:
        amount = f"at least {fewest} " if fewest else ""
        raise ValueError(
            f"`{name}` must be a tuple of {amount}positive integers, but {sizes!r} was given. "
            f"Write one size per layer, such as `{name}={(32,) * max(fewest, 1)}`."
        )


def check_choice(name: str, given: str, choices: Any) -> None:
    """Check a string against a `Literal`."""
    words = get_args(choices)
    if given not in words:
        listed = ", ".join(repr(word) for word in words)
        raise ValueError(f"`{name}` must be one of {listed}, but {given!r} was given.")
