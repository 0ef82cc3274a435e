"""The smallest value of a quadratic form on a simplex, by looking at each of its faces."""

import itertools as it

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


# There are 255 faces with eight corners.
LARGEST = 8


def minimize_on_simplex(
    linear: Float[Array, " m"], quadratic: Float[Array, "m m"], valid: Bool[Array, " m"]
) -> Float[Array, " m"]:
    r"""Minimize $b^\top c + \frac{1}{2} c^\top A c$ over $c \ge 0$, $\sum_i c_i = 1$, with $c_i = 0$ where not valid.

    The minimum is inside of some face, where the gradient is the same for all corners of that face, so it is enough to
    solve one linear system per face and compare. This finds it where $A$ is indefinite, too.
    """
    m = linear.shape[0]
    faces = np.array(list(it.product([False, True], repeat=m))[1:])
    dtype = linear.dtype
    scale = jnp.maximum(jnp.max(jnp.abs(jnp.where(valid[:, None] & valid[None], quadratic, 0))), jnp.finfo(dtype).tiny)
    a, b = quadratic / scale, linear / scale

    def stationary(face: Bool[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, ""]]:
        inside = face[:, None] & face[None]
        # An empty corner has the equation c = 0.
        block = jnp.where(inside, a, jnp.eye(m, dtype=dtype)) + 1e-14 * jnp.eye(m, dtype=dtype)
        border = face.astype(dtype)
        matrix = jnp.block([[block, border[:, None]], [border[None], jnp.zeros((1, 1), dtype)]])
        right = jnp.concatenate([jnp.where(face, -b, 0), jnp.ones(1, dtype)])
        c = jnp.linalg.solve(matrix, right)[:m]
        single = jnp.sum(face) == 1
        c = jnp.where(single, border, c)
        good = jnp.all(jnp.isfinite(c)) & jnp.all(c >= -1e-12) & jnp.all(~face | valid)
        c = jnp.where(good, jnp.maximum(c, 0), 0)
        return c, jnp.where(good, b @ c + 0.5 * (c @ a @ c), jnp.inf)

    found, values = jax.vmap(stationary)(jnp.asarray(faces))
    best = found[jnp.argmin(values)]
    return best / jnp.sum(best)
