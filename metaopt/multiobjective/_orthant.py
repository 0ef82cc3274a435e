"""Small convex quadratic programs over the nonnegative orthant and the simplex."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


# So many exchanges of whole blocks may fail to reduce the number of violated conditions before single ones begin.
_PATIENCE = 3


class _Pivot(eqx.Module):
    free: Bool[Array, " m"]
    fewest: Int[Array, ""]
    patience: Int[Array, ""]
    count: Int[Array, ""]
    done: Bool[Array, ""]


def _on_face(matrix: Float[Array, "m m"], linear: Float[Array, " m"], free: Bool[Array, " m"]) -> Float[Array, " m"]:
    """The stationary point where all other entries are zero."""
    inside = free[:, None] & free[None]
    block = jnp.where(inside, matrix, jnp.eye(matrix.shape[0], dtype=matrix.dtype))
    return jnp.linalg.solve(block, jnp.where(free, linear, 0))


def minimize_on_orthant(matrix: Float[Array, "m m"], linear: Float[Array, " m"]) -> Float[Array, " m"]:
    r"""Minimize $\frac{1}{2} x^\top A x - b^\top x$ over $x \ge 0$ with positive definite $A$.

    Block principal pivoting: where a guess of the support breaks the conditions of optimality, all entries that break
    them change sides; if that helps no more, only the last of them does, which ends after finitely many exchanges.
    A ridge of a few rounding errors makes semidefinite matrices definite. Only the last system is differentiated: the
    support is locally constant.

    ??? cite "Reference"

        ```bibtex
        @article{kim2011fast,
          title={Fast Nonnegative Matrix Factorization: An Active-Set-Like Method and Comparisons},
          author={Kim, Jingu and Park, Haesun},
          journal={SIAM Journal on Scientific Computing}, year={2011}
        }
        ```
    """
    m = matrix.shape[0]
    eps = float(jnp.finfo(matrix.dtype).eps)
    scale = jnp.max(jnp.diagonal(matrix))
    ridged = matrix + 4 * m * eps * scale * jnp.eye(m, dtype=matrix.dtype)
    a, b = jax.lax.stop_gradient((ridged, linear))
    slack = 16 * m * eps

    def broken(free: Bool[Array, " m"]) -> Bool[Array, " m"]:
        x = _on_face(a, b, free)
        y = a @ x - b
        return jnp.where(free, x < -slack * jnp.max(jnp.abs(x)), y < -slack * jnp.max(jnp.abs(b)))

    def go_on(pivot: _Pivot) -> Bool[Array, ""]:
        return ~pivot.done & (pivot.count < 20 * m)

    def body(pivot: _Pivot) -> _Pivot:
        wrong = broken(pivot.free)
        number = jnp.sum(wrong).astype(jnp.int32)
        fewer = number < pivot.fewest
        whole = fewer | (pivot.patience > 0)
        last = wrong & (jnp.cumsum(wrong[::-1])[::-1] == 1)
        free = pivot.free ^ jnp.where(whole, wrong, last)
        patience = jnp.where(fewer, _PATIENCE, jnp.maximum(pivot.patience - 1, 0)).astype(jnp.int32)
        return _Pivot(free, jnp.minimum(number, pivot.fewest), patience, pivot.count + 1, number == 0)

    start = _Pivot(
        b > 0,
        jnp.asarray(m + 1, jnp.int32),
        jnp.asarray(_PATIENCE, jnp.int32),
        jnp.asarray(0, jnp.int32),
        jnp.asarray(False),
    )
    free = jax.lax.while_loop(go_on, body, start).free
    return jnp.maximum(_on_face(ridged, linear, free), 0)


def minimize_on_simplex(matrix: Float[Array, "m m"]) -> Float[Array, " m"]:
    r"""Minimize $x^\top A x$ over $x \ge 0$, $\sum_i x_i = 1$ with positive semidefinite $A$.

    A penalty on the sum is exact up to scale: the minimizer of $x^\top A x + \kappa (\sum_i x_i - 1)^2$ over $x \ge 0$
    is a multiple of that on the simplex, for the derivative of the penalty is the same in all directions.
    """
    scale = jnp.max(jnp.diagonal(matrix))
    scaled = matrix / jnp.where(scale > 0, scale, 1)
    x = minimize_on_orthant(scaled + 1, jnp.ones_like(matrix[0]))
    return x / jnp.sum(x)
