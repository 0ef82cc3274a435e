"""Gauss-Newton with adaptive damping and a line search: the natural gradient of a physics-informed loss."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from .._core._numbers import check_counts, number
from ..tasks._common import check_choice
from ._objective import Objective
from .base import AbstractSolver


Method = Literal["dense", "matrix_free"]

# With at most so many halvings the direction with the small damping is good.
_SHORT = 7


class _GaussNewtonState(eqx.Module):
    damping: Float[Array, ""]


class GaussNewton(AbstractSolver[_GaussNewtonState, PyTree]):
    r"""Gauss-Newton steps with damping and a line search.

    For residuals $r$ with Jacobian $J$,

    $$(J^T J + \mu I) \, \delta = J^T r, \qquad \theta \leftarrow \theta - 2^{-k} \delta,$$

    with the $k$ among `halvings` that gives the lowest loss, and no step if none lowers it. There are two
    dampings $\mu$: a small and constant one, which is best near a solution, and where that leads to very short
    steps another, which rises after short steps and falls after long ones. For a linear equation $J^T J$ is the
    energy inner product of the tangent space of the network, so that this is energy natural gradient descent.
    It wants double precision.

    If there are fewer residuals than parameters, the same step is taken from the smaller system $J J^T + \mu I$.

    **Arguments:**

    - `damping`: the constant $\mu$, relative to the mean of the squared singular values.
    - `halvings`: how many step lengths are tried.
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
    """

    damping: Float[Array, ""] = eqx.field(converter=number, default=1e-9)
    halvings: int = eqx.field(static=True, default=14)
    method: Method = eqx.field(static=True, default="dense")
    iterations: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        check_counts(halvings=self.halvings, iterations=self.iterations)
        check_choice("method", self.method, Method)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _GaussNewtonState:
        del key
        dtype = ravel_pytree(eqx.filter(params, eqx.is_inexact_array))[0].dtype
        return _GaussNewtonState(jnp.asarray(1e-3, dtype))

    def step(
        self, state: _GaussNewtonState, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[_GaussNewtonState, PyTree]:
        dynamic, static = eqx.partition(params, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(dynamic)

        def put(flat: Array) -> PyTree:
            return eqx.combine(unravel(flat), static)

        lowest = self.damping.astype(flat.dtype)
        dampings = jnp.stack([lowest, state.damping])
        directions = self._directions(dampings, grads, params, flat, put)
        lengths = 0.5 ** jnp.arange(self.halvings, dtype=flat.dtype)
        tried = (flat[None, None] - lengths[None, :, None] * directions[:, None]).reshape(-1, flat.shape[0])
        losses = jax.lax.map(lambda x: grads.loss(put(x)), tried)
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        losses = losses.reshape(2, self.halvings)
        start = grads.loss(params) if value is None else value.astype(flat.dtype)
        near, far = jnp.argmin(losses, axis=1)
        # The other one gives the best loss of the two for long, although its steps lead less far.
        trusted = (losses[0, near] < start) & (near < _SHORT)
        index = jnp.where(trusted | (losses[0, near] <= losses[1, far]), near, self.halvings + far)
        better = losses.reshape(-1)[index] < start
        factor = jnp.where(far <= 1, 0.3, jnp.where(far <= 3, 1.0, 4.0))
        factor = jnp.where(losses[1, far] < start, factor, 10.0)
        damping = jnp.clip(factor * state.damping, lowest, 1.0)
        return _GaussNewtonState(damping), put(jnp.where(better, tried[index], flat))

    def _directions(
        self, dampings: Float[Array, " k"], signal: Objective, params: PyTree, flat: Float[Array, " p"], put: Any
    ) -> Float[Array, "k p"]:
        if self.method == "matrix_free":
            return jax.lax.map(lambda damping: self._conjugate_gradients(damping, signal, flat, put), dampings)
        r, jacobian = signal.system(params)
        n, p = jacobian.shape
        wide = n < p
        gram = jacobian @ jacobian.T if wide else jacobian.T @ jacobian
        size = min(n, p)
        scale, identity = jnp.trace(gram) / size, jnp.eye(size, dtype=gram.dtype)
        right = r if wide else jacobian.T @ r

        def solve(damping: Float[Array, ""]) -> Float[Array, " s"]:
            operator = lx.MatrixLinearOperator(gram + damping * scale * identity, lx.positive_semidefinite_tag)
            # No check of the solution: a failed factorization gives NaN, which the line search rejects.
            return lx.linear_solve(operator, right, lx.Cholesky(), throw=False).value

        found = jax.lax.map(solve, dampings)
        return found @ jacobian if wide else found

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
