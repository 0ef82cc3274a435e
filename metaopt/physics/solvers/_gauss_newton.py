"""Gauss-Newton with adaptive damping and a line search: the natural gradient of a physics-informed loss."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import NONNEGATIVE, check_counts, number
from ...tasks._common import check_choice
from .._objective import Objective
from ..base import AbstractSolver


Method = Literal["dense", "matrix_free"]

# With at most so many halvings the direction with the small damping is good.
_SHORT = 7
# From this fraction of the largest loss on the small damping falls with the loss, and how far.
# On Poisson's equation (seeds 0, 10, 11) errors end at 3e-7 to 1e-6 with this, and at 1e-6 to 4e-6 with a constant
# damping. Where it falls from the beginning, Helmholtz' equation ends at 1e-3 to 4e-3.
_LATE = 1e-8
_LEAST = 1e-5


class _GaussNewtonState(NamedTuple):
    """The damping that adapts, and the largest loss so far."""

    damping: Float[Array, ""]
    largest: Float[Array, ""]


class GaussNewton(AbstractSolver[_GaussNewtonState, PyTree]):
    r"""Gauss-Newton steps with damping and a line search.

    For residuals $r$ with Jacobian $J$,

    $$(J^T J + \mu I) \, \delta = J^T r, \qquad \theta \leftarrow \theta - 2^{-k} \delta,$$

    with the first $k$ among `halvings` below which the loss rises again, and no step if none lowers the loss.
    There are two dampings $\mu$: a small one, which is best near a solution, and where that leads to very short steps
    another, which rises after short steps of its own and falls after long ones. Once the loss is below $10^{-8}$ of
    the largest one seen, the small one falls in proportion to it, to $10^{-5}$ of what it was at the least, as
    quadratic convergence needs it. For a linear equation $J^T J$ is the energy inner product of the tangent space of
    the network, so that this is energy natural gradient descent. It wants double precision.

    If there are fewer residuals than parameters, the same step is taken from the smaller system $J J^T + \mu I$.

    **Arguments:**

    - `damping`: the small $\mu$ at first, relative to the mean of the squared singular values.
    - `halvings`: how many step lengths are tried, at most.
    - `method`: `"dense"` factorizes the matrix; `"matrix_free"` solves with conjugate gradients, for large networks.
    - `iterations`: of conjugate gradients, at most.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{muller2023achieving,
            title={Achieving high accuracy with {PINN}s via energy natural gradient descent},
            author={M{\"u}ller, Johannes and Zeinhofer, Marius},
            booktitle={International Conference on Machine Learning},
            year={2023},
        }
        ```

    ??? cite "Damping that falls with the loss"

        ```bibtex
        @incollection{yamashita2001rate,
            title={On the rate of convergence of the {L}evenberg-{M}arquardt method},
            author={Yamashita, N. and Fukushima, M.},
            booktitle={Topics in Numerical Analysis},
            pages={239--249},
            year={2001},
        }
        ```
    """

    damping: Float[Array, ""] = eqx.field(converter=number, default=1e-9)
    halvings: int = eqx.field(static=True, default=14)
    method: Method = eqx.field(static=True, default="dense")
    iterations: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(damping=self.damping)
        check_counts(halvings=self.halvings, iterations=self.iterations)
        check_choice("method", self.method, Method)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _GaussNewtonState:
        del key
        dtype = ravel_pytree(eqx.filter(params, eqx.is_inexact_array))[0].dtype
        return _GaussNewtonState(jnp.asarray(1e-3, dtype), jnp.zeros((), dtype))

    def step(
        self, state: _GaussNewtonState, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[_GaussNewtonState, PyTree]:
        dynamic, static = eqx.partition(params, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(dynamic)

        def put(flat: Array) -> PyTree:
            return eqx.combine(unravel(flat), static)

        start = grads.loss(params) if value is None else value.astype(flat.dtype)
        solve = self._solver(grads, params, flat, put)

        def search(damping: Float[Array, ""]) -> tuple[Array, Array, Array]:
            direction = solve(damping)

            def at(length: Array) -> Array:
                loss = grads.loss(put(flat - length * direction))
                return jnp.where(jnp.isfinite(loss), loss, jnp.inf)

            def shorter(carry: tuple[Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array], None]:
                best, index, done = carry
                loss = jax.lax.cond(done, lambda: jnp.full_like(start, jnp.inf), lambda: at(lengths[k]))
                # Past the minimum, shorter steps are not tried.
                done = done | ((loss >= best) & (best < start))
                return (jnp.minimum(loss, best), jnp.where(loss < best, k, index), done), None

            first = (jnp.full_like(start, jnp.inf), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
            (best, index, _), _ = jax.lax.scan(shorter, first, jnp.arange(self.halvings, dtype=jnp.int32))
            return flat - lengths[index] * direction, best, index

        lengths = 0.5 ** jnp.arange(self.halvings, dtype=flat.dtype)
        lowest = self.damping.astype(flat.dtype)
        largest = jnp.maximum(state.largest, jnp.where(jnp.isfinite(start), start, 0))
        fallen = start / jnp.where(largest == 0, 1, largest)
        near, near_loss, near_index = search(lowest * jnp.clip(fallen / _LATE, _LEAST, 1.0))

        def damped() -> tuple[Array, Array, Array]:
            far, far_loss, far_index = search(state.damping)
            factor = jnp.where(far_index <= 1, 0.3, jnp.where(far_index <= 3, 1.0, 4.0))
            factor = jnp.where(far_loss < start, factor, 10.0).astype(flat.dtype)
            closer = near_loss <= far_loss
            damping = jnp.clip(factor * state.damping, lowest, 1.0)
            return jnp.where(closer, near, far), jnp.minimum(near_loss, far_loss), damping

        # The other one gives the best loss of the two for long, although its steps lead less far.
        trusted = (near_loss < start) & (near_index < _SHORT)
        point, loss, damping = jax.lax.cond(trusted, lambda: (near, near_loss, state.damping), damped)
        return _GaussNewtonState(damping, largest), put(jnp.where(loss < start, point, flat))

    def _solver(
        self, signal: Objective, params: PyTree, flat: Float[Array, " p"], put: Any
    ) -> Callable[[Float[Array, ""]], Float[Array, " p"]]:
        """The direction for a damping."""
        if self.method == "matrix_free":
            return lambda damping: self._conjugate_gradients(damping, signal, flat, put)
        r, jacobian = signal.system(params)
        n, p = jacobian.shape
        wide = n < p
        gram = jacobian @ jacobian.T if wide else jacobian.T @ jacobian
        size = min(n, p)
        scale, identity = jnp.trace(gram) / size, jnp.eye(size, dtype=gram.dtype)
        right = r if wide else jacobian.T @ r

        def solve(damping: Float[Array, ""]) -> Float[Array, " p"]:
            operator = lx.MatrixLinearOperator(gram + damping * scale * identity, lx.positive_semidefinite_tag)
            # No check of the solution: a failed factorization gives NaN, which the line search rejects.
            found = lx.linear_solve(operator, right, lx.Cholesky(), throw=False).value
            return found @ jacobian if wide else found

        return solve

    def _conjugate_gradients(
        self, damping: Float[Array, ""], signal: Objective, flat: Float[Array, " p"], put: Any
    ) -> Float[Array, " p"]:
        r, push = jax.linearize(lambda x: signal.vector(put(x)), flat)
        pull = jax.linear_transpose(push, flat)
        (right,) = pull(r)
        # The Rayleigh quotient of the gradient stands for the mean of the squared singular values.
        norm = jnp.sum(right**2)
        scale = jnp.sum(push(right) ** 2) / jnp.where(norm == 0, 1, norm)

        def product(x: Float[Array, " p"]) -> Float[Array, " p"]:
            return pull(push(x))[0] + damping * scale * x

        operator = lx.FunctionLinearOperator(
            product, jax.ShapeDtypeStruct(flat.shape, flat.dtype), lx.positive_semidefinite_tag
        )
        solver = lx.CG(rtol=1e-8, atol=0.0, max_steps=self.iterations)
        return lx.linear_solve(operator, right, solver, throw=False).value
