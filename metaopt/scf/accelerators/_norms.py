"""Numbers that several accelerators need."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def largest(matrix: Float[Array, "..."]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(matrix))
