"""What is wrong with a part that somebody else wrote, in a sentence that names it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import PyTree

from ._algorithm import AbstractAlgorithm
from ._task import AbstractLossTask, AbstractTask


class CheckError(ValueError):
    """Raised by [`metaopt.check`][]: names the stage that failed, and what was wrong."""


def is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct) or eqx.is_array(x)


def difference(before: PyTree, after: PyTree) -> tuple[str | None, str, str] | None:
    """Where two trees first differ in shape, dtype or kind, and what is there in each; no place, if in structure."""
    old, new = (jtu.tree_flatten_with_path(tree) for tree in (before, after))
    if old[1] != new[1]:
        return None, str(old[1]), str(new[1])
    for (path, a), (_, b) in zip(old[0], new[0], strict=True):
        if _kind(a) != _kind(b):
            return jtu.keystr(path), _kind(a), _kind(b)
    return None


def _kind(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if is_shape(x) else f"a `{type(x).__name__}`"


_UNKNOWN = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


@contextlib.contextmanager
def explained(
    algorithm: AbstractAlgorithm[Any, Any, Any],
    task: AbstractTask[Any, Any],
    params: Any,
    *,
    measured: bool = False,
    contribute: Callable[[Any], Any] | None = None,
) -> Iterator[None]:
    """Where something fails in here, look for the part that is to blame, and say so; otherwise the error goes on.

    Costs nothing where nothing fails.

    **Arguments:**

    - `algorithm`, `task`, `params`: the parts.
    - `measured`: whether `measure` is used.
    - `contribute`: a function of a value, for the contribution of an objective.

    **Raises:**

    - `CheckError`: naming the part.
    """
    try:
        yield
    except CheckError:
        raise
    except (TypeError, ValueError, *_UNKNOWN) as error:
        fault = fault_of_task(task, params, measured=measured) or fault_of_step(algorithm, task, params)
        if fault is None and contribute is not None:
            fault = _fault_of_objective(contribute)
        if fault is None:
            raise
        raise CheckError(fault) from error


def fault_of_task(task: AbstractTask[Any, Any], params: Any, *, measured: bool = True) -> str | None:
    """What is wrong with the values of a task."""
    key, name = jr.key(0), type(task).__name__
    if isinstance(task, AbstractLossTask):
        fault = _fault_of_value(f"`{name}.loss`", lambda p: task.loss(p, key=key), params)
    else:
        pair, fault = _shapes(f"`{name}.evaluate`", lambda p: task.evaluate(p, key=key), params)
        if pair is _FAILED:
            return fault
        if not (isinstance(pair, tuple) and len(pair) == 2):
            return f"`{name}.evaluate` must return a pair, the value and the signal, but it returns {_said(pair)}."
        fault = _not_a_number(f"The value of `{name}.evaluate`", pair[0])
    if fault is None and measured:
        fault = _fault_of_value(f"`{name}.measure`", lambda p: task.measure(p, key=key), params)
    return fault


def fault_of_step(algorithm: AbstractAlgorithm[Any, Any, Any], task: AbstractTask[Any, Any], params: Any) -> str | None:
    """What is wrong with a step of an algorithm on a task whose values are fine."""
    key, name = jr.key(0), f"`{type(algorithm).__name__}.step`"
    seen, fault = _shapes(f"`{type(task).__name__}.evaluate`", lambda p: task.evaluate(p, key=key), params)
    if seen is _FAILED:
        return fault
    state, fault = _shapes(f"`{type(algorithm).__name__}.init`", lambda p: (algorithm.init(p, key=key), p), params)
    if state is _FAILED:
        return fault

    def step(carry: Any, seen: Any) -> Any:
        return algorithm.step(carry[0], carry[1], seen[1], value=seen[0])

    found, fault = _shapes(name, step, state, seen)
    if found is _FAILED:
        return fault
    if not (isinstance(found, tuple) and len(found) == 2):
        return f"{name} must return a pair, the new state and the new parameters, but it returns {_said(found)}."
    for what, before, after in (("parameters", state[1], found[1]), ("state", state[0], found[0])):
        different = difference(before, after)
        if different is None:
            continue
        if difference(state[0], found[1]) is None and difference(state[1], found[0]) is None:
            return f"{name} returns the parameters first. It must return the new state, then the new parameters."
        place, old, new = different
        if place is None:
            return f"{name} changes the structure of its {what} from {old} to {new}. A step must keep it."
        return (
            f"{name} changes its {what}{place} from {old} to {new}. A step must keep shapes and dtypes; "
            "`x.astype(y.dtype)` gives an array the dtype of another one."
        )
    return None


def _fault_of_objective(contribute: Callable[[Any], Any]) -> str | None:
    pair, fault = _shapes("`contribute` of the objective", contribute, jax.ShapeDtypeStruct((), jnp.result_type(float)))
    if pair is _FAILED:
        return fault
    if not (isinstance(pair, tuple) and len(pair) == 2):
        return f"`contribute` of the objective must return its state and a number, but it returns {_said(pair)}."
    return _not_a_number("The contribution of the objective", pair[1])


_FAILED = object()


def _shapes(name: str, function: Callable[..., Any], *args: Any) -> tuple[Any, str | None]:
    """What a function returns, by shapes only; or that it failed, and why, where it cannot be compiled."""
    try:
        return eqx.filter_eval_shape(function, *args), None
    except _UNKNOWN as error:
        return _FAILED, (
            f"{name} needs a number that is not known while the program is compiled: a Python `if`, `float(...)` or "
            "NumPy was given an array that the loop computes. Use `jnp.where` or `jax.lax.cond` for branches, and "
            f"`jax.numpy` for mathematics. jax says: {str(error).splitlines()[0]}"
        )
    except Exception:
        return _FAILED, None


def _fault_of_value(name: str, function: Callable[[Any], Any], params: Any) -> str | None:
    value, fault = _shapes(name, function, params)
    return fault if value is _FAILED else _not_a_number(name, value)


def _not_a_number(name: str, value: Any) -> str | None:
    """What is wrong with a value that has to be one real number."""
    if isinstance(value, float):
        return None
    if not isinstance(value, jax.ShapeDtypeStruct):
        hint = " Is there a `return` missing?" if value is None else ""
        return f"{name} must be one number, but it is {_said(value)}.{hint}"
    if value.shape != ():
        return (
            f"{name} must be one number, but it has the shape {tuple(value.shape)}. Take the mean or the sum, with "
            "`jnp.mean` or `jnp.sum`."
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return f"{name} must be a real number, but its dtype is {value.dtype}. Convert it with `.astype(float)`."
    return None


def _said(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "`None`" if value is None else f"a `{type(value).__name__}`"
