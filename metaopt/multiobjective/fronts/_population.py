"""How a population moves to a front, and along it."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from .._orthant import minimize_on_orthant
from .._scalarizations import chebyshev
from ._distances import riesz_energy
from ._hypervolume import hypervolume
from ._nondominated import dominance, nondominated


# In units of the tolerance, how far inside of the feasible set points are put.
_MARGIN = 0.5
# The scale of the objectives and the multipliers are brought up to date after so many steps.
_CHUNK = 10
# For objectives in units of the front and constraints in units of their own. The bench of fronts measures it on
# constrained problems; there is no record of other values.
_PENALTY = 10.0

Points = Float[Array, "n d"]


class Functions(eqx.Module):
    """Objectives and constraints of a point and a key, on the unit cube if `bounded`; `noisy` if the key matters."""

    objectives: Callable[..., Any] = eqx.field(static=True)
    constraints: Callable[..., Any] = eqx.field(static=True)
    bounded: bool = eqx.field(static=True)
    objective_count: int = eqx.field(static=True)
    constraint_count: int = eqx.field(static=True)
    equality_count: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    noisy: bool = eqx.field(static=True)

    def clip(self, points: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        return jnp.clip(points, 0, 1) if self.bounded else points

    def evaluate(self, points: Points, key: PRNGKeyArray) -> tuple[Float[Array, "n m"], Float[Array, "n c"]]:
        """Both at all points, with the same random numbers."""
        return jax.vmap(lambda x: (self.objectives(x, key), self.constraints(x, key)))(points)

    def feasible(self, constraints: Float[Array, "n c"]) -> Bool[Array, " n"]:
        return jnp.all(constraints <= 0, axis=1)

    def violations(self, constraints: Float[Array, "n c"]) -> Float[Array, " n"]:
        """Of the worst constraint each. Equalities are the last, from above and from below, less the tolerance."""
        c = self.constraint_count
        slack = jnp.where(jnp.arange(c) < c - 2 * self.equality_count, 0, self.tolerance).astype(constraints.dtype)
        return jnp.max(jnp.maximum(constraints + slack[None], 0), axis=1, initial=0.0)


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

    Those that violate less than the mean stand for the feasible ones. (Not the better half: that may be one part of a
    front that has several, and the units then leave the others out.)
    """
    violation = jnp.sum(jnp.maximum(constraints, 0), axis=1)
    usable = jnp.all(jnp.isfinite(values), axis=1) & (violation <= jnp.mean(violation))
    marked = (nondominated(values, usable) | (~jnp.any(usable)))[:, None]
    ideal = jnp.min(jnp.where(marked, values, jnp.inf), axis=0)
    extent = jnp.max(jnp.where(marked, values, -jnp.inf), axis=0) - ideal
    # Early on there may be one such point only.
    floor = 0.05 * jnp.max(jnp.where(usable[:, None], values - ideal[None], 0), axis=0)
    return ideal, jnp.maximum(extent, floor) + 1e-6 * (1 + jnp.abs(ideal))


def _linearized(
    functions: Functions, x: Float[Array, " d"], key: PRNGKeyArray
) -> tuple[Float[Array, " c"], Float[Array, "c d"]]:
    """The constraints at a point, and their derivatives as finite numbers."""
    values, pull = jax.vjp(lambda x: functions.constraints(x, key), x)
    (jacobian,) = jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))
    return values, jnp.nan_to_num(jacobian)


def restore(functions: Functions, points: Points, key: PRNGKeyArray, count: Int[Array, ""]) -> Points:
    """Put points into the feasible set, by Gauss-Newton steps on what is violated."""
    if functions.constraint_count == 0:
        return points
    margin = _MARGIN * functions.tolerance

    def one(x: Float[Array, " d"]) -> Float[Array, " d"]:
        def body(_: Any, x: Float[Array, " d"]) -> Float[Array, " d"]:
            values, jacobian = _linearized(functions, x, key)
            excess = jnp.maximum(values + margin, 0)
            active = jnp.where((excess > 0)[:, None], jacobian, 0)
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
        values, jacobian = _linearized(functions, x, key)
        active = jnp.where((values > -4 * functions.tolerance)[:, None], jacobian, 0)
        size = jnp.linalg.norm(active, axis=1, keepdims=True)
        active = active / jnp.where(size > 0, size, 1)
        return grad + minimize_on_orthant(active @ active.T, -active @ grad) @ active

    return jax.vmap(one)(points, jnp.nan_to_num(grads, posinf=0.0, neginf=0.0))


class _Descent(eqx.Module):
    points: Points
    trial: Points
    adam: _Adam
    multipliers: Float[Array, "n c"]
    ideal: Float[Array, " m"]
    extent: Float[Array, " m"]


def _trials(functions: Functions, points: Points, neighbors: Int[Array, "n k"], key: PRNGKeyArray) -> Points:
    """For each point another one: some variables are those of others, mostly of neighbors, and some are mutated."""
    (n, d), dtype = points.shape, points.dtype
    # One draw for all choices that each point makes, and those of each variable.
    draw = jr.uniform(key, (7 + 2 * d, n), dtype)
    choices, dice = draw[:7], draw[7:].reshape(2, d, n).swapaxes(1, 2)
    near = neighbors[jnp.arange(n), (choices[0] * neighbors.shape[1]).astype(jnp.int32)]
    far = (choices[2] * n).astype(jnp.int32)
    partner = jnp.where(choices[1] < 0.7, near, far)
    mixed = jnp.where(dice[0] < choices[3][:, None], points[partner], points)
    # Differences between members lie along the front once they are near it.
    along = points + choices[5][:, None] * (points[near] - points[far])
    trial = jnp.where((choices[6] < 0.85)[:, None], mixed, along)
    shift = jnp.exp(-6 * choices[4])[:, None] * heavy(0.9 * (2 * dice[0] - 1))
    return functions.clip(trial + jnp.where(dice[1] < 1 / d, shift, 0))


def descend(
    functions: Functions,
    points: Points,
    weights: Float[Array, "n m"],
    *,
    steps: int,
    rate: float,
    keys: Key[Array, "steps 2"],
) -> tuple[Points, tuple[Float[Array, " m"], Float[Array, " m"]]]:
    """Let each point minimize its own augmented Chebyshev scalarization, and try the variables of others.

    Each step is one of Adam on the scalarization with the augmented Lagrangian of the constraints, and one trial: some
    variables are those of another point, mostly of one with a similar preference, and some are mutated; it replaces
    the point if its scalarization is lower. Gradients find the bottom of a valley, trials the right valley. Points and
    trials are evaluated together, at the start of the next step.
    """
    n, dtype = points.shape[0], points.dtype
    neighbors = jnp.argsort(jnp.sum(jnp.square(weights[:, None] - weights[None]), axis=-1), axis=1)[:, : min(20, n)]
    # On the ray through the ideal point along the preference all weighted distances are the same.
    inverse = 1 / jnp.maximum(weights, 1e-3)
    inverse = inverse / jnp.sum(inverse, axis=1, keepdims=True)

    def merit(
        values: Float[Array, " m"],
        constraints: Float[Array, " c"],
        weight: Float[Array, " m"],
        multiplier: Float[Array, " c"],
    ) -> Float[Array, ""]:
        total = chebyshev(values, weight, jnp.full_like(values, -0.01), jnp.asarray(0.02, dtype))
        if functions.constraint_count == 0:
            return total
        pressure = jnp.maximum(0, multiplier + _PENALTY * constraints)
        return total + jnp.sum(jnp.square(pressure) - jnp.square(multiplier)) / (2 * _PENALTY)

    def step(state: _Descent, inputs: tuple[Array, Key[Array, " 2"]]) -> tuple[_Descent, None]:
        count, keys = inputs
        both = jnp.concatenate([state.points, state.trial])
        (values, constraints), pull = jax.vjp(lambda x: functions.evaluate(x, keys[0]), both)

        def refreshed() -> tuple[Float[Array, "n c"], Float[Array, " m"], Float[Array, " m"]]:
            pressure = jnp.maximum(0, state.multipliers + _PENALTY * constraints[:n])
            return jnp.where(count > 0, pressure, 0), *scale(values[:n], constraints[:n])

        multipliers, ideal, extent = jax.lax.cond(
            (count % _CHUNK == 0) | (count == steps), refreshed, lambda: (state.multipliers, state.ideal, state.extent)
        )
        doubled = jnp.concatenate([inverse, inverse]), jnp.concatenate([multipliers, multipliers])
        normal = (values - ideal[None]) / extent[None]
        total, slopes = jax.vmap(jax.value_and_grad(merit, (0, 1)))(normal, constraints, *doubled)
        (grads,) = pull((slopes[0] / extent[None], slopes[1]))
        better = ((total[n:] < total[:n]) | ~jnp.isfinite(total[:n]))[:, None]
        points, grads = (jnp.where(better, x[n:], x[:n]) for x in (both, grads))
        adam = _Adam(jnp.where(better, 0, state.adam.first), state.adam.second)
        adam, move = adam.step(grads, count, rate * (0.5 * (1 + jnp.cos(math.pi * count / steps)) + 2e-3))
        points = functions.clip(points + move)
        trial = _trials(functions, points, neighbors, keys[1])
        return _Descent(points, trial, adam, multipliers, ideal, extent), None

    m = weights.shape[1]
    start = _Descent(
        points,
        points,
        at_rest(points),
        jnp.zeros((n, functions.constraint_count), dtype),
        jnp.zeros(m, dtype),
        jnp.ones(m, dtype),
    )
    end = jax.lax.scan(step, start, (jnp.arange(steps + 1, dtype=dtype), keys))[0]
    return end.points, (end.ideal, end.extent)


def heavy(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Numbers between -1 and 1, as ones with tails like those of Cauchy's distribution (a cheap tangent)."""
    return x * (1.5 - 0.5 * jnp.square(x)) / (1 - jnp.square(x))


class Found(eqx.Module):
    """A population, its objectives and constraints, and its volume."""

    points: Points
    values: Float[Array, "n m"]
    constraints: Float[Array, "n c"]
    volume: Float[Array, ""]


class _Ascent(eqx.Module):
    points: Points
    adam: _Adam
    best: Found


def _uphill(
    values: Float[Array, "n m"], reference: Float[Array, " m"]
) -> tuple[Float[Array, ""], Float[Array, "n m"], Float[Array, "n m"]]:
    """The volume, its derivative, and in which direction of its objectives each point climbs.

    Points are sorted into layers, each the front of those that the layers before leave, and climb the volume of their
    own layer. Points beyond the reference, on which no volume depends, go straight back to it.
    """
    beyond = jnp.isfinite(values) & (values >= reference[None])
    inside = jnp.all(jnp.isfinite(values) & ~beyond, axis=1)
    pairs = dominance(values)

    def layer(left: Bool[Array, " n"]) -> tuple[Bool[Array, " n"], Float[Array, ""], Float[Array, "n m"]]:
        front = left & ~jnp.any(pairs & left[:, None], axis=0)
        return front, *jax.value_and_grad(hypervolume)(jnp.where(front[:, None], values, jnp.inf), reference)

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        left, uphill = carry
        front, _, slope = layer(left)
        return left & ~front, uphill + slope

    front, volume, slope = layer(inside)
    _, uphill = jax.lax.while_loop(lambda carry: jnp.any(carry[0]), body, (inside & ~front, slope))
    return volume, slope, jnp.where(beyond, -1, uphill)


def _fill_gaps(
    functions: Functions, points: Points, values: Float[Array, "n m"], slope: Float[Array, "n m"], key: PRNGKeyArray
) -> Points:
    """Move points that add nothing to where one adds most, between it and a neighbor, or beyond them."""
    (n, d), m, dtype = points.shape, values.shape[1], points.dtype
    # Of the box that a point adds, the derivatives are the faces.
    added = jnp.prod(jnp.abs(slope), axis=1) ** (1 / (m - 1))
    weak = added <= 1e-3 * jnp.mean(added)
    draw = jr.uniform(key, (4 + 2 * d, n), dtype)
    choices, dice = draw[:4], draw[4:].reshape(2, d, n).swapaxes(1, 2)
    share = jnp.tri(n, dtype=dtype) @ jnp.where(weak, 0, added)
    parent = jnp.minimum(jnp.searchsorted(share, choices[0] * share[-1], method="compare_all"), n - 1)
    apart = jnp.sum(jnp.square(values[:, None] - values[None]), axis=-1)
    apart = jnp.where(weak[None] | jnp.eye(n, dtype=bool) | ~jnp.isfinite(apart), jnp.inf, apart)
    close = jnp.argsort(apart, axis=1)[:, : min(3, n)]
    mate = close[parent, (choices[1] * close.shape[1]).astype(jnp.int32)]
    # Half of them between the two, the others on the line beyond them, where another part of the front may be.
    place = jnp.where(choices[2] < 0.5, 2 * choices[2], heavy(0.95 * (4 * choices[2] - 3)))
    between = place[:, None] * (points[mate] - points[parent])
    shift = jnp.exp(-2 - 7 * choices[3])[:, None] * (2 * dice[0] - 1)
    child = functions.clip(points[parent] + between + jnp.where(dice[1] < 1 / d, shift, 0))
    return jnp.where(weak[:, None], child, points)


def ascend(
    functions: Functions,
    points: Points,
    units: tuple[Float[Array, " m"], Float[Array, " m"]],
    reference: Float[Array, " m"],
    *,
    rounds: int,
    steps: int,
    rate: float,
    repulsion: float,
    keys: Key[Array, "k 2"],
) -> Found:
    """Climb the hypervolume with all points together.

    In each round, points that add nothing move to where one adds most, between it and a neighbor; then Adam climbs the
    gradients of the hypervolumes of all layers, less the Riesz energy times `repulsion`; violated constraints are put
    right after each step. The best population is kept; the last, if values are noisy.

    `units` are the least values of the objectives and the extents of the front, in which its volume is measured.
    """
    ideal, extent = units
    n, m, dtype = points.shape[0], functions.objective_count, points.dtype
    # One more step, for what was best.
    total = rounds * (steps + 1)

    def step(state: _Ascent, inputs: tuple[Array, Key[Array, " 2"]]) -> tuple[_Ascent, None]:
        index, keys = inputs
        first, last = index == 0, index == total
        points = jnp.where(last & (not functions.noisy), state.best.points, state.points)
        points = restore(functions, points, keys[0], jnp.where(last, 30, 1))
        (values, constraints), pull = jax.vjp(lambda x: functions.evaluate(x, keys[0]), points)
        good = functions.feasible(constraints)[:, None]
        normal = jnp.where(good, (values - ideal[None]) / extent[None], jnp.inf)
        volume, slope, uphill = _uphill(normal, reference)
        # Under noise the best would be the luckiest.
        better = first | last | (volume > state.best.volume) | functions.noisy
        found = Found(points, values, constraints, volume)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, state.best)
        if repulsion:
            energy = jax.grad(riesz_energy)(jnp.where(jnp.isfinite(normal), normal, 0))
            uphill = uphill - repulsion * energy
        (grads,) = pull((jnp.where(good, -uphill / extent[None], 0), jnp.zeros_like(constraints)))
        count = index % (steps + 1)
        size = rate * (0.5 * (1 + jnp.cos(math.pi * (index // (steps + 1)) / rounds)) + 1e-2)

        def moved() -> tuple[_Adam, Points]:
            return at_rest(points), _fill_gaps(functions, points, normal, slope, keys[1])

        def climbed() -> tuple[_Adam, Points]:
            along = tangential(functions, points, grads, keys[0])
            adam, move = state.adam.step(along, count - 1, size * (1 - (count - 1) / steps))
            return adam, functions.clip(points + move)

        adam, points = jax.lax.cond(count == 0, moved, climbed)
        return _Ascent(points, adam, best), None

    nothing = jnp.zeros((n, m), dtype), jnp.zeros((n, functions.constraint_count), dtype)
    best = Found(points, *nothing, jnp.zeros((), dtype))
    indices = jnp.arange(total + 1, dtype=dtype)
    return jax.lax.scan(step, _Ascent(points, at_rest(points), best), (indices, keys))[0].best
