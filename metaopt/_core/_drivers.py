"""The drivers that own a loop: `minimize` and `fixed_point`."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, ScalarLike

from ._algorithm import AbstractAlgorithm, with_horizon
from ._results import RESULTS, Solution
from ._task import AbstractTask
from .arrays._trees import all_finite, global_norm, select, spoiled, started


P = TypeVar("P")


class _Loop(eqx.Module):
    state: PyTree
    params: PyTree
    value: Float[Array, ""]
    norm: Float[Array, ""]
    step: Int[Array, ""]
    met: Bool[Array, ""]
    finite: Bool[Array, ""]


def minimize(
    objective: AbstractTask[P, Any] | Callable[[P], ScalarLike],
    algorithm: AbstractAlgorithm[Any, Any, Any],
    params: P | None = None,
    *,
    steps: int,
    tolerance: float = 0.0,
    throw: bool = False,
    key: PRNGKeyArray | None = None,
) -> Solution[P]:
    r"""Minimize an objective with an algorithm.

    Runs $s_{t+1}, \theta_{t+1} = \mathrm{step}(s_t, \theta_t, \nabla f(\theta_t))$ in one compiled loop until
    $\lVert \nabla f(\theta_t) \rVert \le$ `tolerance`, the budget is spent, or a value is not finite.

    **Arguments:**

    - `objective`: a task, or a function of the parameters that returns a scalar.
    - `algorithm`: the algorithm.
    - `params`: where to start. May be omitted for a task, which then draws its own start. Python floats are constants
        beside arrays, and parameters where there are no arrays, as in `minimize(f, algorithm, 0.0, steps=100)`.
    - `steps`: the budget, at least 1.
    - `tolerance`: stop when the norm of the gradient is at most this. With 0 the whole budget is used.
    - `throw`: raise on failure (a runtime error with the advice of the result) instead of reporting it.
    - `key`: for tasks that draw minibatches and algorithms that draw random numbers.

    **Returns:**

    A [`metaopt.Solution`][]. After a non-finite value its `params` are the last finite ones.

    **Raises:**

    - `TypeError`: if `steps` is no integer.
    - `ValueError`: if `steps` is below 1, no start is given for a function, or the start holds nothing to train.
    """
    key = jr.key(0) if key is None else key
    start_key, state_key, data_key = jr.split(key, 3)
    if params is None:
        if not isinstance(objective, AbstractTask):
            raise ValueError(
                "`params` must be given when the objective is a function; only a task draws its own start."
            )
        params = objective.init(key=start_key)
    params = started(params)

    def evaluate(params: PyTree, step: Int[Array, ""]) -> tuple[Float[Array, ""], PyTree]:
        if isinstance(objective, AbstractTask):
            return objective.evaluate(params, key=jr.fold_in(data_key, step))
        value, grads = eqx.filter_value_and_grad(objective)(params)
        return jnp.asarray(value), grads

    solution = _run(evaluate, algorithm, params, steps, tolerance, state_key)
    return _conclude(solution, throw)


def fixed_point(
    function: Callable[[P], P],
    algorithm: AbstractAlgorithm[Any, P, P],
    params: P,
    *,
    steps: int,
    tolerance: float = 1e-6,
    throw: bool = False,
    key: PRNGKeyArray | None = None,
) -> Solution[P]:
    r"""Solve $\theta = f(\theta)$: the signal that the algorithm steps on is the residual $\theta - f(\theta)$.

    Gradient descent with rate 1 is then plain fixed-point iteration, and a smaller rate is linear mixing.

    **Arguments:**

    - `function`: $f$; returns the structure, shapes and dtypes of its argument.
    - `algorithm`: any algorithm that takes the residual as its signal.
    - `params`: where to start; Python floats as in [`metaopt.minimize`][].
    - `steps`: the budget, at least 1.
    - `tolerance`: stop when the Euclidean norm of the residual is at most this.
    - `throw`: raise on failure instead of reporting it.
    - `key`: for algorithms that draw random numbers.

    **Returns:**

    A [`metaopt.Solution`][] whose `value` is the norm of the residual at `params`.

    **Raises:**

    - `TypeError`: if `steps` is no integer.
    - `ValueError`: if `steps` is below 1, if there is nothing to solve for, or if `function` changes structure or
        shapes.
    """
    params = started(params)
    given, returned = (eqx.filter_eval_shape(f, params) for f in (lambda x: x, function))
    if _shapes(given) != _shapes(returned):
        texts = [eqx.tree_pformat(tree, struct_as_array=True) for tree in (given, returned)]
        raise ValueError(f"`function` must return what it is given: given {texts[0]}, but {texts[1]} was returned.")

    def evaluate(params: PyTree, step: Int[Array, ""]) -> tuple[Float[Array, ""], PyTree]:
        del step
        image = function(params)
        residual = jtu.tree_map(lambda a, b: a - b if eqx.is_inexact_array(a) else None, params, image)
        return global_norm(residual), residual

    key = jr.key(0) if key is None else key
    return _conclude(_run(evaluate, algorithm, params, steps, tolerance, key), throw)


def _shapes(tree: PyTree) -> Any:
    leaves, structure = jtu.tree_flatten(tree)
    return structure, [(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else None for x in leaves]


def _run(
    evaluate: Callable[[PyTree, Int[Array, ""]], tuple[Float[Array, ""], PyTree]],
    algorithm: AbstractAlgorithm[Any, Any, Any],
    params: PyTree,
    steps: int,
    tolerance: float,
    key: PRNGKeyArray,
) -> Solution[Any]:
    algorithm = with_horizon(algorithm, steps)
    value, signal = evaluate(params, jnp.asarray(0))
    norm = global_norm(signal)
    finite = all_finite((value, signal))
    state = algorithm.init(params, key=key)
    # With no tolerance to meet, a gradient of zero is no reason to stop: the next minibatch may have another.
    strict = jnp.asarray(tolerance) > 0
    start = _Loop(state, params, value, norm, jnp.asarray(0), strict & (norm <= tolerance), finite)
    dynamic, static = eqx.partition((start, signal), eqx.is_array)

    def go_on(dynamic: PyTree) -> Bool[Array, ""]:
        loop, _ = dynamic
        return ~loop.met & loop.finite & (loop.step < steps)

    def body(dynamic: PyTree) -> PyTree:
        loop, signal = eqx.combine(dynamic, static)
        state, params = algorithm.step(loop.state, loop.params, signal, value=loop.value)
        step = loop.step + 1
        value, new_signal = evaluate(params, step)
        finite = all_finite((value, new_signal)) & ~spoiled(loop.params, params)
        norm = global_norm(new_signal)
        new = _Loop(state, params, value, norm, step, strict & (norm <= tolerance), finite)
        kept = eqx.tree_at(lambda x: (x.step, x.finite), loop, (step, finite))
        return eqx.filter((select(finite, new, kept), new_signal), eqx.is_array)

    final = jax.lax.while_loop(go_on, body, dynamic)
    loop, _ = eqx.combine(final, static)
    result = RESULTS.where(loop.met, RESULTS.converged, RESULTS.max_steps)
    # With no tolerance to meet, spending the budget is what was asked for.
    result = RESULTS.where(strict, result, RESULTS.converged)
    result = RESULTS.where(loop.finite, result, RESULTS.nonfinite)
    return Solution(loop.params, loop.value, loop.norm, loop.step, result)


def _conclude(solution: Solution[P], throw: bool) -> Solution[P]:
    if not throw:
        return solution
    # On all of the solution: under `jit`, what nobody reads is left out, and its error with it.
    return solution.result.error_if(solution, solution.result != RESULTS.converged)
