"""How a population moves to a front, and along it."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from ._distances import riesz_energy
from ._hypervolume import hypervolume
from ._nondominated import nondominated
from ._orthant import minimize_on_orthant
from ._scalarizations import chebyshev


# In units of the tolerance, how far inside of the feasible set points are put.
_MARGIN = 0.5
# The scale of the objectives and the multipliers are brought up to date after so many steps.
_CHUNK = 10
_PENALTY = 10.0

Points = Float[Array, "n d"]


class Functions(eqx.Module):
    """Objectives and constraints of a point and a key, on the unit cube if `bounded`."""

    objectives: Callable[..., Any] = eqx.field(static=True)
    constraints: Callable[..., Any] = eqx.field(static=True)
    bounded: bool = eqx.field(static=True)
    constraint_count: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)

    def clip(self, points: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        return jnp.clip(points, 0, 1) if self.bounded else points

    def evaluate(self, points: Points, key: PRNGKeyArray) -> tuple[Float[Array, "n m"], Float[Array, "n c"]]:
        """Both at all points, with the same random numbers."""
        return jax.vmap(lambda x: (self.objectives(x, key), self.constraints(x, key)))(points)

    def feasible(self, constraints: Float[Array, "n c"]) -> Bool[Array, " n"]:
        return jnp.all(constraints <= 0, axis=1)


class _Adam(eqx.Module):
    first: Points
    second: Points

    def step(self, grads: Points, count: Float[Array, ""], rate: Float[Array, ""]) -> tuple["_Adam", Points]:
        grads = jnp.nan_to_num(grads, posinf=0.0, neginf=0.0)
        first = 0.9 * self.first + 0.1 * grads
        second = 0.97 * self.second + 0.03 * jnp.square(grads)
        mean, square = first / (1 - 0.9 ** (count + 1)), second / (1 - 0.97 ** (count + 1))
        return _Adam(first, second), -rate * mean / (jnp.sqrt(square) + 1e-12)


def at_rest(points: Points) -> _Adam:
    return _Adam(jnp.zeros_like(points), jnp.zeros_like(points))


def scale(
    values: Float[Array, "n m"], constraints: Float[Array, "n c"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """The least value of each objective on the front so far, and the extent of the front.

    The better half by the sum of violations stands for the feasible ones, while these are fewer.
    """
    violation = jnp.sum(jnp.maximum(constraints, 0), axis=1)
    usable = jnp.all(jnp.isfinite(values), axis=1) & (violation <= jnp.median(violation))
    marked = (nondominated(values, usable) | (~jnp.any(usable)))[:, None]
    ideal = jnp.min(jnp.where(marked, values, jnp.inf), axis=0)
    extent = jnp.max(jnp.where(marked, values, -jnp.inf), axis=0) - ideal
    # Early on there may be one such point only.
    floor = 0.05 * jnp.max(jnp.where(usable[:, None], values - ideal[None], 0), axis=0)
    return ideal, jnp.maximum(extent, floor) + 1e-6 * (1 + jnp.abs(ideal))


def restore(functions: Functions, points: Points, key: PRNGKeyArray, count: int) -> Points:
    """Put points into the feasible set, by Gauss-Newton steps on what is violated."""
    if functions.constraint_count == 0:
        return points
    margin = _MARGIN * functions.tolerance

    def one(x: Float[Array, " d"]) -> Float[Array, " d"]:
        def body(_: Any, x: Float[Array, " d"]) -> Float[Array, " d"]:
            values, pull = jax.vjp(lambda x: functions.constraints(x, key), x)
            (jacobian,) = jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))
            excess = jnp.maximum(values + margin, 0)
            active = jnp.where((excess > 0)[:, None], jnp.nan_to_num(jacobian), 0)
            square = active @ active.T
            ridge = 1e-5 * jnp.trace(square) + 1e-9
            move = active.T @ jnp.linalg.solve(square + ridge * jnp.eye(square.shape[0], dtype=square.dtype), excess)
            return functions.clip(x - move)

        return jax.lax.fori_loop(0, count, body, x)

    return jax.vmap(one)(points)


def tangential(functions: Functions, points: Points, grads: Points, key: PRNGKeyArray) -> Points:
    """Gradients whose steps do not leave the feasible set: projected onto the cone of constraints that are active.

    Adam scales coordinates one by one, so that its step on a gradient normal to a constraint is not normal to it.
    """
    if functions.constraint_count == 0:
        return grads

    def one(x: Float[Array, " d"], grad: Float[Array, " d"]) -> Float[Array, " d"]:
        values, pull = jax.vjp(lambda x: functions.constraints(x, key), x)
        (jacobian,) = jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))
        active = jnp.where((values > -4 * functions.tolerance)[:, None], jnp.nan_to_num(jacobian), 0)
        size = jnp.linalg.norm(active, axis=1, keepdims=True)
        active = active / jnp.where(size > 0, size, 1)
        return grad + minimize_on_orthant(active @ active.T, -active @ grad) @ active

    return jax.vmap(one)(points, jnp.nan_to_num(grads, posinf=0.0, neginf=0.0))


class _Descent(eqx.Module):
    points: Points
    adam: _Adam
    multipliers: Float[Array, "n c"]


def descend(
    functions: Functions,
    points: Points,
    weights: Float[Array, "n m"],
    *,
    steps: int,
    rate: float,
    key: PRNGKeyArray,
) -> Points:
    """Let each point minimize its own augmented Chebyshev scalarization, and try the variables of others.

    Each step is one of Adam on the scalarization with the augmented Lagrangian of the constraints, and one trial: some
    variables are those of another point, mostly of one with a similar preference, and some are mutated; it replaces
    the point if its scalarization is lower. Gradients find the bottom of a valley, trials the right valley.
    """
    n, d = points.shape
    neighbors = jnp.argsort(jnp.sum(jnp.square(weights[:, None] - weights[None]), axis=-1), axis=1)[:, : min(20, n)]
    # On the ray through the ideal point along the preference all weighted distances are the same.
    inverse = 1 / jnp.maximum(weights, 1e-3)
    inverse = inverse / jnp.sum(inverse, axis=1, keepdims=True)
    dtype = points.dtype

    def chunk(state: _Descent, inputs: tuple[Array, Key[Array, " chunk"]]) -> tuple[_Descent, None]:
        values, constraints = functions.evaluate(state.points, inputs[1][0])
        ideal, extent = scale(values, constraints)

        def merit(
            x: Float[Array, " d"], weight: Float[Array, " m"], multiplier: Float[Array, " c"], key: PRNGKeyArray
        ) -> Float[Array, ""]:
            normal = (functions.objectives(x, key) - ideal) / extent
            below = jnp.full_like(normal, -0.01)
            total = chebyshev(normal, weight, below, jnp.asarray(0.02, dtype))
            if functions.constraint_count == 0:
                return total
            pressure = jnp.maximum(0, multiplier + _PENALTY * functions.constraints(x, key))
            return total + jnp.sum(jnp.square(pressure) - jnp.square(multiplier)) / (2 * _PENALTY)

        def all_merits(points: Points, multipliers: Float[Array, "n c"], key: PRNGKeyArray) -> Float[Array, " n"]:
            return jax.vmap(merit, (0, 0, 0, None))(points, inverse, multipliers, key)

        def step(state: _Descent, inputs: tuple[Array, PRNGKeyArray]) -> tuple[_Descent, None]:
            count, key = inputs
            keys = jr.split(key, 6)
            decayed = rate * (0.5 * (1 + jnp.cos(math.pi * count / steps)) + 2e-3)
            grads = jax.grad(lambda x: jnp.sum(all_merits(x, state.multipliers, keys[0])))(state.points)
            adam, move = state.adam.step(grads, count, decayed)
            points = functions.clip(state.points + move)
            # One draw for all choices that each point makes, one for those of each variable.
            choices = jr.uniform(keys[1], (7, n), dtype)
            near = neighbors[jnp.arange(n), (choices[0] * neighbors.shape[1]).astype(jnp.int32)]
            far = (choices[2] * n).astype(jnp.int32)
            partner = jnp.where(choices[1] < 0.7, near, far)
            dice = jr.uniform(keys[2], (2, n, d), dtype)
            mixed = jnp.where(dice[0] < choices[3][:, None], points[partner], points)
            # Differences between members lie along the front once they are near it.
            along = points + choices[5][:, None] * (points[near] - points[far])
            trial = jnp.where((choices[6] < 0.85)[:, None], mixed, along)
            size = jnp.exp(-6 * choices[4])[:, None]
            shift = size * jnp.tan(0.9 * math.pi * (dice[0] - 0.5))
            trial = functions.clip(trial + jnp.where(dice[1] < 1 / d, shift, 0))
            own = all_merits(points, state.multipliers, keys[0])
            better = ((all_merits(trial, state.multipliers, keys[0]) < own) | ~jnp.isfinite(own))[:, None]
            points = jnp.where(better, trial, points)
            adam = _Adam(jnp.where(better, 0, adam.first), adam.second)
            return _Descent(points, adam, state.multipliers), None

        state, _ = jax.lax.scan(step, state, inputs)
        if functions.constraint_count:
            _, constraints = functions.evaluate(state.points, inputs[1][0])
            multipliers = jnp.maximum(0, state.multipliers + _PENALTY * constraints)
            state = _Descent(state.points, state.adam, multipliers)
        return state, None

    chunks = max(1, steps // _CHUNK)
    counts = jnp.arange(chunks * _CHUNK, dtype=dtype).reshape(chunks, _CHUNK)
    keys = jr.split(key, (chunks, _CHUNK))
    start = _Descent(points, at_rest(points), jnp.zeros((n, functions.constraint_count), dtype))
    return jax.lax.scan(chunk, start, (counts, keys))[0].points


def contributions(values: Float[Array, "n m"], reference: Float[Array, " m"]) -> Float[Array, " n"]:
    """By how much the hypervolume shrinks without each of the points."""
    n, m = values.shape
    if m == 2:
        counts = nondominated(values) & jnp.all(values < reference[None], axis=1)
        kept = jnp.where(counts[:, None], values, reference[None])
        order = jnp.lexsort((-kept[:, 1], kept[:, 0]))
        x, y = kept[order, 0], kept[order, 1]
        right, above = jnp.append(x[1:], reference[0]), jnp.append(reference[1], y[:-1])
        return jnp.zeros(n, values.dtype).at[order].set(jnp.maximum(right - x, 0) * jnp.maximum(above - y, 0))
    total = hypervolume(values, reference)

    def without(index: Array) -> Float[Array, ""]:
        return hypervolume(values.at[index].set(jnp.inf), reference)

    return total - jax.lax.map(without, jnp.arange(n), batch_size=16)


class _Ascent(eqx.Module):
    points: Points
    best: Points
    volume: Float[Array, ""]


def ascend(
    functions: Functions,
    points: Points,
    known: tuple[Float[Array, " m"], Float[Array, " m"]] | None,
    reference: Float[Array, " m"],
    *,
    rounds: int,
    steps: int,
    rate: float,
    repulsion: float,
    key: PRNGKeyArray,
) -> Points:
    """Climb the hypervolume with all points together.

    In each round, points that add nothing move to where one adds most, between it and a neighbor; then Adam climbs the
    gradient of the hypervolume, less the Riesz energy times `repulsion`; violated constraints are put right after each
    step. The best population is kept.
    """
    n, d = points.shape
    points = restore(functions, points, key, 10)
    values, constraints = functions.evaluate(points, key)
    ideal, extent = scale(values, constraints) if known is None else known
    dtype = points.dtype

    def normal(points: Points, key: PRNGKeyArray) -> Float[Array, "n m"]:
        values, constraints = functions.evaluate(points, key)
        good = functions.feasible(constraints)[:, None]
        return jnp.where(good, (values - ideal[None]) / extent[None], jnp.inf)

    def loss(points: Points, key: PRNGKeyArray) -> Float[Array, ""]:
        values = normal(points, key)
        total = -hypervolume(values, reference)
        return total + repulsion * riesz_energy(jnp.where(jnp.isfinite(values), values, 0)) if repulsion else total

    def fresh(state: _Ascent, key: PRNGKeyArray) -> Points:
        keys = jr.split(key, 3)
        values = normal(state.points, keys[0])
        added = contributions(values, reference)
        weak = added <= 1e-3 * jnp.mean(added)
        choices, dice = jr.uniform(keys[1], (4, n), dtype), jr.uniform(keys[2], (2, n, d), dtype)
        share = jnp.cumsum(jnp.where(weak, 0, added))
        parent = jnp.minimum(jnp.searchsorted(share, choices[0] * share[-1]), n - 1)
        apart = jnp.sum(jnp.square(values[:, None] - values[None]), axis=-1)
        apart = jnp.where(weak[None] | jnp.eye(n, dtype=bool) | ~jnp.isfinite(apart), jnp.inf, apart)
        close = jnp.argsort(apart, axis=1)[:, : min(3, n)]
        mate = close[parent, (choices[1] * close.shape[1]).astype(jnp.int32)]
        # Half of them between the two, the others on the line beyond them, where another part of the front may be.
        inside, beyond = 2 * choices[2], jnp.tan(0.95 * math.pi * (2 * choices[2] - 1.5))
        place = jnp.where(choices[2] < 0.5, inside, beyond)
        between = place[:, None] * (state.points[mate] - state.points[parent])
        shift = jnp.exp(-2 - 7 * choices[3])[:, None] * (2 * dice[0] - 1)
        child = functions.clip(state.points[parent] + between + jnp.where(dice[1] < 1 / d, shift, 0))
        return jnp.where(weak[:, None], child, state.points)

    def one_round(state: _Ascent, inputs: tuple[Array, PRNGKeyArray]) -> tuple[_Ascent, None]:
        index, key = inputs
        keys = jr.split(key, 3)
        first = rate * (0.5 * (1 + jnp.cos(math.pi * index / rounds)) + 1e-2)

        def step(carry: tuple[Points, _Adam], inputs: tuple[Array, PRNGKeyArray]) -> tuple[tuple[Points, _Adam], None]:
            points, adam = carry
            count, key = inputs
            grads = tangential(functions, points, jax.grad(loss)(points, key), key)
            adam, move = adam.step(grads, count, first * (1 - count / steps))
            return (restore(functions, functions.clip(points + move), key, 1), adam), None

        points = fresh(state, keys[0])
        counts = jnp.arange(steps, dtype=dtype), jr.split(keys[1], steps)
        (points, _), _ = jax.lax.scan(step, (points, at_rest(points)), counts)
        points = restore(functions, points, keys[2], 3)
        volume = hypervolume(normal(points, key_of_volume), reference)
        better = volume > state.volume
        return _Ascent(points, jnp.where(better, points, state.best), jnp.maximum(volume, state.volume)), None

    # Populations are compared on the same random numbers.
    start_key, key_of_volume = jr.split(key)
    start = _Ascent(points, points, hypervolume(normal(points, key_of_volume), reference))
    inputs = jnp.arange(rounds, dtype=dtype), jr.split(start_key, rounds)
    return jax.lax.scan(one_round, start, inputs)[0].best
