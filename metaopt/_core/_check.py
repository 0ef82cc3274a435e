"""A dry run of an algorithm, without computing anything."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import PyTree

from ._algorithm import AbstractAlgorithm
from ._explain import CheckError, difference, fault_of_task, is_shape
from ._task import AbstractTask
from .arrays._trees import started


class Report(eqx.Module):
    """What a dry run found: shapes of the state, and bytes held by parameters and state."""

    state: PyTree
    param_bytes: int
    state_bytes: int


def check(
    algorithm: AbstractAlgorithm[Any, Any, Any],
    params: PyTree | None = None,
    grads: PyTree | None = None,
    *,
    task: AbstractTask[Any, Any] | None = None,
) -> Report:
    """Dry-run an algorithm on a task or on parameters, by shapes only.

    Goes through the stages `task.init`, `task.evaluate`, `algorithm.init` and `algorithm.step`, and checks that a
    step keeps structure, shapes and dtypes of state and parameters, also where a gradient is `None`.

    **Arguments:**

    - `algorithm`: the algorithm.
    - `params`: the parameters; may be omitted if a task is given.
    - `grads`: the signal; by default the task's, or else the shapes of the parameters.
    - `task`: an inner problem.

    **Returns:**

    A [`metaopt.Report`][].

    **Raises:**

    - `CheckError`: naming the stage that failed; `params` if they hold nothing to train.
    """
    key = jr.key(0)
    if params is None:
        if task is None:
            raise CheckError("`check` needs `params` or a `task`; neither was given.")
        params = stage("task.init", lambda: task.init(key=key))
    params = stage("params", started, params)
    value = jax.ShapeDtypeStruct((), jnp.result_type(float))
    if task is not None:
        if (fault := fault_of_task(task, params)) is not None:
            raise CheckError(f"`task` failed: {fault}")
        value, signal = stage("task.evaluate", lambda p: task.evaluate(p, key=key), params)
        grads = signal if grads is None else grads
    elif grads is None:
        grads = eqx.filter(params, lambda x: _is_inexact_shape(x))
    state = stage("algorithm.init", lambda p: algorithm.init(p, key=key), params)

    def step(state: PyTree, params: PyTree, grads: PyTree, value: Any) -> tuple[PyTree, PyTree]:
        return algorithm.step(state, params, grads, value=value)

    new = stage("algorithm.step", step, state, params, grads, value)
    if not (isinstance(new, tuple) and len(new) == 2):
        raise CheckError("`algorithm.step` must return a pair, the new state and the new parameters.")
    new_state, new_params = new
    if difference(params, new_params) and not difference(params, new_state) and not difference(state, new_params):
        raise CheckError("`algorithm.step` returns the parameters first: the new state comes before them.")
    _same("state", state, new_state)
    _same("params", params, new_params)
    missing = _without_one(grads, params)
    if missing is not None:
        name, grads = missing
        try:
            _same("params", params, eqx.filter_eval_shape(step, state, params, grads, value)[1])
        except Exception as error:
            raise CheckError(
                f"`algorithm.step` fails where the gradient of `params{name}` is `None`, which says that it is not "
                "trained and has to stay as it is. Map over the gradients, not over the parameters, and add up with "
                f"`eqx.apply_updates`, or skip those leaves. {type(error).__name__}: {error}"
            ) from error
    return Report(state, _nbytes(params), _nbytes(state))


def stage(name: str, fn: Callable[..., Any], *args: Any) -> Any:
    """What a function returns, by shapes only; an error names the stage."""
    try:
        return eqx.filter_eval_shape(fn, *args)
    except Exception as error:
        raise CheckError(f"`{name}` failed: {type(error).__name__}: {error}") from error


def _without_one(grads: PyTree, params: PyTree) -> tuple[str, PyTree] | None:
    """The signal without its first leaf, if it is one of gradients; and the name of that leaf."""
    trained = eqx.filter(params, _is_inexact_shape)
    leaves, structure = jtu.tree_flatten_with_path(grads)
    # A residual, or gradients of several objectives, look different.
    alike = jtu.tree_structure(trained) == structure and all(
        jnp.shape(param) == jnp.shape(grad) for param, (_, grad) in zip(jtu.tree_leaves(trained), leaves, strict=True)
    )
    if not leaves or not alike:
        return None
    return jtu.keystr(leaves[0][0]), jtu.tree_unflatten(structure, [None, *(leaf for _, leaf in leaves[1:])])


def _is_inexact_shape(x: Any) -> bool:
    return is_shape(x) and jnp.issubdtype(x.dtype, jnp.inexact)


def _same(what: str, before: PyTree, after: PyTree) -> None:
    different = difference(before, after)
    if different is None:
        return
    place, old, new = different
    if place is None:
        raise CheckError(f"`algorithm.step` changed the structure of `{what}`: from {old} to {new}.")
    raise CheckError(
        f"`algorithm.step` changed `{what}{place}` from {old} to {new}. A step must keep shapes and dtypes."
    )


def _nbytes(tree: PyTree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jtu.tree_leaves(tree) if is_shape(x))
