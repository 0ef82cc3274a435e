"""What a caller states of a problem, as functions of a point."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core.arrays._trees import trainable
from ._population import Functions


def functions_of(
    given: tuple[Any, Any, Any],
    decode: Callable[[Float[Array, " d"]], PyTree],
    flat: Float[Array, " d"],
    *,
    bounded: bool,
    tolerance: float,
    stochastic: bool,
    perturbation: float | None,
    samples: int,
) -> Functions:
    """Objectives, inequalities and equalities as functions of a point and a key."""

    def joined(functions: Any, name: str) -> tuple[Callable[..., Any], int]:
        several = listed(functions)

        def call(x: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " m"]:
            params = decode(x)
            outputs = [_vector(f(params, key) if stochastic else f(params), name, flat.dtype) for f in several]
            return jnp.concatenate(outputs) if outputs else jnp.zeros(0, flat.dtype)

        count = jax.eval_shape(call, flat, jr.key(0)).shape[0]
        return call if perturbation is None else _perturbed(call, perturbation, samples), count

    names = "objectives", "constraints", "equalities"
    (objectives, m), (inequalities, inequality_count), (equal, equality_count) = (
        joined(*pair) for pair in zip(given, names, strict=True)
    )
    if m < 2:
        raise ValueError(
            f"A front needs at least two objectives, but {m} was given. Minimize one objective with `metaopt.minimize`."
        )
    if equality_count > flat.size:
        raise ValueError(
            f"There are {equality_count} equalities, but only {flat.size} variables to meet them with. Leave out those "
            "that follow from others, or state them as inequalities."
        )

    def constraints(x: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " c"]:
        h = equal(x, key)
        return jnp.concatenate([inequalities(x, key), h - tolerance, -h - tolerance])

    count = inequality_count + 2 * equality_count
    return Functions(objectives, constraints, bounded, m, count, equality_count, tolerance, stochastic)


def listed(functions: Any) -> list[Callable[..., Any]]:
    """One function or several, as a list."""
    return [functions] if callable(functions) else list(functions)


def _vector(output: Any, name: str, dtype: Any) -> Float[Array, " k"]:
    if not eqx.is_array(output) or output.ndim > 1 or not jnp.issubdtype(output.dtype, jnp.floating):
        array = eqx.is_array(output)
        shape = f"an array of shape {output.shape} and dtype {output.dtype}" if array else ""
        given = shape or f"a `{type(output).__name__}`"
        raise ValueError(
            f"`{name}` must return a floating-point number or a vector of them for one set of parameters, but {given} "
            "was returned."
        )
    return jnp.atleast_1d(output).astype(dtype)


def uniform(bounds: tuple[PyTree, PyTree]) -> Callable[[PRNGKeyArray], PyTree]:
    """Draws a point within the bounds."""
    low, unravel = ravel_pytree(bounds[0])
    high = ravel_pytree(bounds[1])[0]
    return lambda key: unravel(jr.uniform(key, low.shape, low.dtype, low, high))


def flat_bounds(
    bounds: tuple[PyTree, PyTree] | None, flat: Float[Array, " d"]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """The bounds as vectors; zeros and ones, which change nothing, without."""
    if bounds is None:
        return jnp.zeros_like(flat), jnp.ones_like(flat)
    lower, upper = (ravel_pytree(trainable(bound))[0].astype(flat.dtype) for bound in bounds)
    if lower.shape != flat.shape or upper.shape != flat.shape:
        raise ValueError(
            f"`bounds` must be two trees like the parameters, with {flat.size} numbers, but they have {lower.size} and "
            f"{upper.size}."
        )
    return lower, upper


def _perturbed(function: Callable[..., Any], deviation: float, samples: int) -> Callable[..., Any]:
    """The same values, with derivatives estimated from antithetic pairs of perturbed ones."""

    def call(x: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " m"]:
        value = function(x, key)
        if value.shape[0] == 0:
            return value
        fixed = jax.lax.stop_gradient(x)
        directions = jr.normal(key, (samples, x.shape[0]), x.dtype)
        up, down = (jax.vmap(lambda e, s=s: function(fixed + s * deviation * e, key))(directions) for s in (1, -1))
        jacobian = (up - down).T @ directions / (2 * deviation * samples)
        return jax.lax.stop_gradient(value) + jax.lax.stop_gradient(jacobian) @ (x - fixed)

    return call
