"""A physics-informed loss as the signal of solvers that ask for more than a gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree


class Objective(eqx.Module):
    r"""The loss $\sum_k \lambda_k \frac{1}{n_k} \sum_i w_{ki} \lVert r_k(x_i; \theta) \rVert^2$ of a step, as functions
    of the parameters.

    Only what a solver asks for is computed.
    """

    task: Any
    points: tuple[Any, ...]
    weights: tuple[Float[Array, "..."], ...]

    def reweighted(self, factors: tuple[Float[Array, "..."], ...]) -> "Objective":
        """The same with each weight multiplied by a factor."""
        weights = tuple(
            w * jax.lax.stop_gradient(f).astype(w.dtype) for w, f in zip(self.weights, factors, strict=True)
        )
        return Objective(self.task, self.points, weights)

    def residuals(self, params: PyTree) -> tuple[Float[Array, "n k"], ...]:
        """What each term wants to vanish, at its points."""
        return tuple(self.task.term_residual(i, params, points) for i, points in enumerate(self.points))

    def losses(self, params: PyTree) -> Float[Array, " terms"]:
        """The mean square of each term, without its weight."""
        return jnp.stack([jnp.mean(jnp.sum(r**2, axis=1)) for r in self.residuals(params)])

    def weighted_losses(self, params: PyTree) -> Float[Array, " terms"]:
        """The weighted mean square of each term."""
        return jnp.stack(
            [
                jnp.mean(w.astype(r.dtype) * jnp.sum(r**2, axis=1))
                for w, r in zip(self.weights, self.residuals(params), strict=True)
            ]
        )

    def loss(self, params: PyTree) -> Float[Array, ""]:
        """The sum of the weighted mean squares."""
        return jnp.sum(self.weighted_losses(params))

    def gradient(self, params: PyTree) -> tuple[Float[Array, ""], PyTree]:
        """The loss and its gradient."""
        return eqx.filter_value_and_grad(self.loss)(params)

    def stacked(self, params: PyTree, *, weighted: bool = True) -> tuple[Float[Array, " terms"], PyTree]:
        """The losses of the terms, and their gradients stacked on a leading axis."""
        dynamic, static = eqx.partition(params, eqx.is_inexact_array)
        losses = self.weighted_losses if weighted else self.losses

        def of(dynamic: PyTree) -> Float[Array, " terms"]:
            return losses(eqx.combine(dynamic, static))

        values, pull = jax.vjp(of, dynamic)
        (gradients,) = jax.vmap(pull)(jnp.eye(len(self.points), dtype=values.dtype))
        return values, gradients

    def vector(self, params: PyTree) -> Float[Array, " n"]:
        """All residuals in one vector whose squared norm is the loss."""
        parts = [
            (self._scale(w, r)[:, None] * r).reshape(-1)
            for w, r in zip(self.weights, self.residuals(params), strict=True)
        ]
        return jnp.concatenate(parts)

    def system(self, params: PyTree) -> tuple[Float[Array, " n"], Float[Array, "n p"]]:
        """`vector` and its Jacobian. Terms are differentiated point by point, since a point moves its own row only."""
        values, jacobians = [], []
        for index, (points, weight) in enumerate(zip(self.points, self.weights, strict=True)):
            r, jacobian = self._term(index, params, points)
            scale = self._scale(weight, r)
            values.append((scale[:, None] * r).reshape(-1))
            jacobians.append((scale[:, None, None] * jacobian).reshape(-1, jacobian.shape[-1]))
        return jnp.concatenate(values), jnp.concatenate(jacobians)

    def term_system(self, index: int, params: PyTree, points: PyTree) -> Float[Array, "n k p"]:
        """The Jacobian of the residual of one term at some points."""
        return self._term(index, params, points)[1]

    def _term(self, index: int, params: PyTree, points: PyTree) -> tuple[Array, Array]:
        dynamic, static = eqx.partition(params, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(dynamic)

        def at(flat: Array, points: PyTree) -> Array:
            return self.task.term_residual(index, eqx.combine(unravel(flat), static), points)

        return _rows(at, flat, points, self.task.pointwise(index))

    def _scale(self, weight: Array, residual: Float[Array, "n k"]) -> Float[Array, " n"]:
        root = jnp.sqrt(weight.astype(residual.dtype) / residual.shape[0])
        return jnp.broadcast_to(root, residual.shape[:1])


def _rows(at: Any, flat: Float[Array, " p"], points: PyTree, pointwise: bool) -> tuple[Array, Array]:
    def both(points: PyTree) -> tuple[Array, Array]:
        values, pull = jax.vjp(lambda x: at(x, points), flat)
        basis = jnp.eye(values.size, dtype=values.dtype).reshape(values.size, *values.shape)
        (rows,) = jax.vmap(pull)(basis)
        return values, rows.reshape(*values.shape, flat.shape[0])

    if not pointwise:
        return both(points)
    singles = jtu.tree_map(lambda x: x[:, None], points)
    values, rows = jax.vmap(both)(singles)
    return values[:, 0], rows[:, 0]
