"""The solver of fronts."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import trainable
from .._preferences import preferences
from ._hypervolume import reference_point
from ._nondominated import nondominated
from ._population import Found, Functions, ascend, descend, restore, scale
from ._problem import Problem
from ._stated import flat_bounds, functions_of, listed, uniform


class FRONT_RESULTS(eqx.Enumeration):
    """How the search for a front ended, each with a sentence of advice."""

    found = "Found."
    infeasible = (
        "No point meets the constraints. Check that they can all be met, allow more `steps`, or loosen `tolerance`."
    )
    nonfinite = (
        "Some objective is NaN or infinite at all points. Check it at a point drawn within the bounds, and bounds that "
        "keep roots, logarithms and divisions finite."
    )
    reference = (
        "No point is below the reference point in all objectives, so that the hypervolume is zero. Raise `reference`, "
        "or give an `ideal` and a `nadir` that belong to the problem."
    )


class Front(eqx.Module):
    """What [`metaopt.multiobjective.pareto_front`][] found.

    - `solutions`: the solutions, stacked on a leading axis.
    - `values`: their objectives.
    - `violations`: by how much each violates its worst constraint; zero if it meets all of them.
    - `feasible`: whether it meets all inequalities, and all equalities to within the tolerance.
    - `nondominated`: whether it is feasible and no other feasible one dominates it.
    - `hypervolume`: of the feasible ones, in units of the front.
    - `result`: how the search ended.
    """

    solutions: PyTree
    values: Float[Array, "n m"]
    violations: Float[Array, " n"]
    feasible: Bool[Array, " n"]
    nondominated: Bool[Array, " n"]
    hypervolume: Float[Array, ""]
    result: FRONT_RESULTS


def pareto_front(
    objectives: Problem | Callable[..., Any] | Sequence[Callable[..., Any]],
    constraints: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
    *,
    equalities: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
    num_solutions: int = 100,
    bounds: tuple[PyTree, PyTree] | None = None,
    bijector: Callable[[PyTree], PyTree] | None = None,
    start: Callable[[PRNGKeyArray], PyTree] | None = None,
    weights: Float[Array, "n m"] | None = None,
    ideal: Any = None,
    nadir: Any = None,
    reference: Any = 1.1,
    steps: int = 300,
    rounds: int = 5,
    round_steps: int = 20,
    rate: float = 0.05,
    repulsion: float = 0.0,
    tolerance: float = 1e-4,
    stochastic: bool = False,
    perturbation: float | None = None,
    samples: int = 16,
    throw: bool = False,
    key: PRNGKeyArray | None = None,
) -> Front:
    r"""Find solutions that cover the Pareto front of several objectives, under constraints.

    A population moves in two stages. In the first, each member has a preference $w$ of its own and minimizes the
    augmented Chebyshev distance $\max_i (f_i - z_i) / w_i$ by Adam, with constraints in an augmented Lagrangian, and
    after each step tries variables of other members (so that a front with many local ones is found, too). In the
    second, all climb together by exact gradients of hypervolumes: those that no other dominates that of the front, and
    so on with the front of those that are left. Members beyond the reference point minimize their distance to it
    (uncrowded hypervolume improvement), and at the start of a round those that add nothing move to gaps. One compiled
    program: wrap the call in `eqx.filter_jit` where it is repeated.

    **Arguments:**

    - `objectives`: a [`metaopt.multiobjective.Problem`][]; a function of the parameters that returns a vector; or
        several functions that each return a number. All are minimized.
    - `constraints`: functions $g$ of the same kind; $g \le 0$ is wanted. Divide each by its size.
    - `equalities`: functions $h$; $h = 0$ is wanted.
    - `num_solutions`: how many members.
    - `bounds`: the lower and the upper bounds, two trees like the parameters. Members are projected onto them, for many
        fronts lie on bounds, which a bijector reaches only at infinity.
    - `bijector`: a function from free parameters to permitted ones, such as one of TFP's bijectors. Solutions are
        permitted ones; `start` and `bounds` are about free ones.
    - `start`: draws a member from a key; by default uniform within the bounds.
    - `weights`: preferences, one row per member, nonnegative; by default [`metaopt.multiobjective.preferences`][].
    - `ideal`, `nadir`: the least and the greatest value of each objective on the front, the units in which distances
        and volumes are measured. By default those of the front found so far.
    - `reference`: the reference point of the hypervolume, in these units.
    - `steps`: of the first stage.
    - `rounds`, `round_steps`: of the second.
    - `rate`: the first step size, in units of the bounds.
    - `repulsion`: how much evenness counts: the Riesz energy of the front times this is subtracted from its volume.
    - `tolerance`: how far equalities may be off. Solutions keep half as much distance from inequalities.
    - `stochastic`: objectives take a key as their second argument, and draw a minibatch with it.
    - `perturbation`: for objectives without useful derivatives: the standard deviation, in units of the bounds, of
        antithetic Gaussian perturbations from which derivatives are estimated (evolution strategies).
    - `samples`: how many pairs of them.
    - `throw`: raise a runtime error if the search fails, instead of reporting it.
    - `key`: draws members, trials and minibatches.

    **Returns:**

    A [`metaopt.multiobjective.Front`][].

    **Raises:**

    - `ValueError`: if there is one objective only; if a function returns anything but a number or a vector; if there
        are more equalities than variables; if there are neither bounds nor a start; or if shapes do not fit.

    ??? cite "Reference"

        ```bibtex
        @article{wang2017hypervolume,
          title={Hypervolume Indicator Gradient Ascent Multi-objective Optimization},
          author={Wang, Hao and Deutz, Andr{\'e} and B{\"a}ck, Thomas and Emmerich, Michael},
          journal={EMO}, year={2017}
        }

        @inproceedings{toure2019uncrowded,
          title={Uncrowded Hypervolume Improvement: {COMO-CMA-ES} and the {Sofomore} Framework},
          author={Tour{\'e}, Cheikh and Hansen, Nikolaus and Auger, Anne and Brockhoff, Dimo},
          booktitle={GECCO}, year={2019}
        }
        ```
    """
    check_counts(num_solutions=num_solutions, steps=steps, rounds=rounds, round_steps=round_steps, samples=samples)
    key = jr.key(0) if key is None else key
    if isinstance(objectives, Problem):
        problem = objectives
        objectives, bounds = problem.objectives, (problem.lower, problem.upper)
        constraints = (problem.constraints, *listed(constraints))
        ideal, nadir = (problem.ideal, problem.nadir) if ideal is None else (ideal, nadir)
    if bounds is None and start is None:
        raise ValueError("Members start within `bounds`, or where `start` draws them, but neither was given.")
    # One draw for all: a program compiles for long if it has many.
    ascents = rounds * (round_steps + 1) + 1
    keys = jr.split(key, num_solutions + 2 * (steps + 1 + ascents) + 1)
    first, starts = keys[0], keys[1 : 1 + num_solutions]
    walks = keys[1 + num_solutions :].reshape(steps + 1 + ascents, 2)
    draw = uniform(bounds) if start is None and bounds is not None else start
    assert draw is not None
    example = draw(first)
    flat, unravel = ravel_pytree(trainable(example))
    lower, upper = flat_bounds(bounds, flat)

    def decode(x: Float[Array, " d"]) -> PyTree:
        tree = eqx.combine(unravel(lower + x * (upper - lower)), example)
        return tree if bijector is None else bijector(tree)

    functions = functions_of(
        (objectives, constraints, equalities),
        decode,
        flat,
        bounded=bounds is not None,
        tolerance=tolerance,
        stochastic=stochastic,
        perturbation=perturbation,
        samples=samples,
    )
    m = functions.objective_count
    reference = reference_point(reference, m, flat.dtype)
    known = _known_units(ideal, nadir, m, flat.dtype)
    weights = _preferences(weights, num_solutions, m, flat.dtype, key=first)
    drawn = jax.vmap(lambda k: ravel_pytree(trainable(draw(k)))[0])(starts)
    points = functions.clip((drawn - lower[None]) / (upper - lower)[None])
    points, units = descend(functions, points, weights, steps=steps, rate=rate, keys=walks[: steps + 1])
    if functions.constraint_count:
        # Points at the ends of the front often are those that violate something.
        points = restore(functions, points, first, jnp.asarray(10))
        units = scale(*functions.evaluate(points, first))
    found = ascend(
        functions,
        points,
        known or units,
        reference,
        rounds=rounds,
        steps=round_steps,
        rate=0.2 * rate,
        repulsion=repulsion,
        keys=walks[steps + 1 :],
    )
    front = _report(found, functions, decode)
    return front.result.error_if(front, front.result != FRONT_RESULTS.found) if throw else front


def _known_units(
    ideal: Any, nadir: Any, m: int, dtype: jnp.dtype
) -> tuple[Float[Array, " m"], Float[Array, " m"]] | None:
    """The least values on the front and its extents, if they were given."""
    if ideal is None or nadir is None:
        return None
    low, high = reference_point(ideal, m, dtype), reference_point(nadir, m, dtype)
    return low, high - low


def _preferences(
    weights: Float[Array, "n m"] | None, num_solutions: int, m: int, dtype: jnp.dtype, *, key: PRNGKeyArray
) -> Float[Array, "n m"]:
    if weights is None:
        weights = preferences(m, num_solutions, key=key).astype(dtype)
    if weights.shape != (num_solutions, m):
        raise ValueError(
            f"`weights` must have shape {(num_solutions, m)}, a row for each solution, but {weights.shape} was given."
        )
    return weights


def _report(found: Found, functions: Functions, decode: Callable[[Float[Array, " d"]], PyTree]) -> Front:
    feasible = functions.feasible(found.constraints)
    usable = jnp.all(jnp.isfinite(found.values), axis=1)
    result = FRONT_RESULTS.where(found.volume > 0, FRONT_RESULTS.found, FRONT_RESULTS.reference)
    result = FRONT_RESULTS.where(jnp.any(feasible), result, FRONT_RESULTS.infeasible)
    result = FRONT_RESULTS.where(jnp.any(usable), result, FRONT_RESULTS.nonfinite)
    return Front(
        solutions=jax.vmap(lambda x: trainable(decode(x)))(found.points),
        values=found.values,
        violations=functions.violations(found.constraints),
        feasible=feasible & usable,
        nondominated=nondominated(found.values, feasible),
        hypervolume=found.volume,
        result=result,
    )
