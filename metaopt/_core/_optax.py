"""The two doors between optax and metaopt."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar, ScalarLike

from ._algorithm import ASSUMED_HORIZON, AbstractAlgorithm, never_told
from ._losses import warn_user
from .arrays._trees import is_none, match, trainable, widest


P = TypeVar("P")

if TYPE_CHECKING:
    OptState = optax.OptState
else:
    # What optax calls a state has no check at run time.
    OptState = Any


class Optax(AbstractAlgorithm[Any, Any, Any]):
    """An optax gradient transformation as an algorithm. Made by [`metaopt.from_optax`][]."""

    factory: Callable[..., optax.GradientTransformation] = eqx.field(static=True)
    hyperparameters: dict[str, Float[Array, "..."]]
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True)

    def _transformation(self, dtype: Any) -> optax.GradientTransformationExtraArgs:
        numbers = {name: number.astype(dtype) for name, number in self.hyperparameters.items()}
        return optax.with_extra_args_support(self.factory(**numbers, **dict(self.options)))

    def _common_dtype(self, params: PyTree) -> Any:
        # Real also for complex parameters: hyperparameters are, and so are second moments.
        return widest([jnp.finfo(x.dtype).dtype for x in jtu.tree_leaves(params)]) if self.hyperparameters else None

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> OptState:
        del key
        params = trainable(params)
        dtype = self._common_dtype(params)
        with _standard_promotion():
            return self._transformation(dtype).init(_cast(params, dtype))

    def step(self, state: OptState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[OptState, P]:
        matched = match(params, grads)
        mutable = trainable(params)
        # optax knows no missing gradients: they are zeros to it, and their parameters are put back untouched.
        filled = matched.put(jtu.tree_map(jnp.zeros_like, mutable), [leaf.grad for leaf in matched.leaves])
        dtype = self._common_dtype(mutable)
        extra = {} if value is None else {"value": value}
        with _standard_promotion():
            transformation = self._transformation(dtype)
            updates, state = transformation.update(_cast(filled, dtype), state, _cast(mutable, dtype), **extra)
        new = [
            (leaf.param.astype(update.dtype) + update).astype(leaf.param.dtype)
            for leaf, update in zip(matched.leaves, matched.pick(updates), strict=True)
        ]
        return state, matched.rebuild(new)


def _standard_promotion() -> AbstractContextManager[None]:
    # optax itself does not trace under `jax_numpy_dtype_promotion="strict"`: it raises a float to an integer power.
    return jax.numpy_dtype_promotion("standard")


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    if dtype is None:
        return tree
    complex_dtype = jnp.result_type(dtype, jnp.complex64)
    return jtu.tree_map(lambda x: x.astype(complex_dtype if jnp.iscomplexobj(x) else dtype), tree)


def from_optax(
    transformation: optax.GradientTransformation | Callable[..., optax.GradientTransformation],
    /,
    **hyperparameters: Any,
) -> Optax:
    """Make an algorithm of an optax gradient transformation.

    With a ready transformation its hyperparameters are baked in. With a factory and its arguments, every
    floating-point argument becomes an array leaf of the algorithm: it can be differentiated, `vmap`ped over and
    meta-learned.

    ```python
    import optax
    import metaopt

    fixed = metaopt.from_optax(optax.adam(1e-3))
    learnable = metaopt.from_optax(optax.adam, learning_rate=1e-3, b1=0.9)
    ```

    **Arguments:**

    - `transformation`: a `GradientTransformation`, or a function that makes one (`optax.adam`).
    - `**hyperparameters`: arguments of the factory. Numbers and float arrays become leaves; everything else
        (flags, integers, schedules) stays static and must be hashable.

    **Returns:**

    An algorithm. With a factory, low-precision parameters are updated in float32 and rounded once, and Adam and its
    relatives get `eps_root=1e-30` where none is given: steps stay the same, and their derivative is finite where a
    gradient is zero. A ready transformation stays as it is; give `eps_root` to optax if you differentiate through it.

    **Raises:**

    - `TypeError`: if the first argument is neither, if a factory does not take the hyperparameters, or if a ready
        transformation comes with some.
    """
    if isinstance(transformation, optax.GradientTransformation):
        if hyperparameters:
            raise TypeError(
                f"Hyperparameters {sorted(hyperparameters)} were given beside a ready transformation, whose "
                "hyperparameters are fixed. Pass the factory instead: `from_optax(optax.adam, learning_rate=1e-3)`."
            )
        return Optax(_Ready(transformation), {}, ())
    if not callable(transformation):
        raise TypeError(
            f"`from_optax` takes an optax gradient transformation or a function that makes one, but a "
            f"`{type(transformation).__name__}` was given."
        )
    leaves, options = {}, []
    for name, argument in hyperparameters.items():
        if isinstance(argument, float) or eqx.is_inexact_array(argument):
            leaves[name] = jnp.asarray(argument, jnp.result_type(float) if isinstance(argument, float) else None)
        else:
            options.append((name, argument))
    if "eps_root" not in hyperparameters and _has_no_root(transformation):
        options.append(("eps_root", _EPS_ROOT))
    made = transformation(**hyperparameters)
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(f"The function given to `from_optax` returns a `{type(made).__name__}`, not a transformation.")
    return Optax(transformation, leaves, tuple(options))


# The square root of a second moment that is zero has an infinite slope: one unit whose gradient is zero would make the
# derivative through an inner loop NaN. This is lost in the rounding of every second moment above 1e-23, and far below
# the usual `eps` of 1e-8, so that steps are those of optax.
_EPS_ROOT = 1e-30


def _has_no_root(factory: Callable[..., Any]) -> bool:
    """Whether a factory takes an `eps_root`, as Adam and its relatives do, and leaves it at zero."""
    try:
        parameter = inspect.signature(factory).parameters.get("eps_root")
    except (TypeError, ValueError):
        return False
    return parameter is not None and isinstance(parameter.default, float) and parameter.default == 0.0


class _Ready:
    """A factory that returns a ready transformation; two are equal when the transformation is the same object."""

    def __init__(self, transformation: optax.GradientTransformation):
        self.transformation = transformation

    def __call__(self) -> optax.GradientTransformation:
        return self.transformation

    def __hash__(self) -> int:
        return hash(self.transformation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ready) and self.transformation == other.transformation


class MissingHorizonWarning(UserWarning):
    """A rule that plans ahead was never told how many steps it will be given."""


def to_optax(
    algorithm: AbstractAlgorithm[Any, Any, Any], *, key: PRNGKeyArray | None = None
) -> optax.GradientTransformationExtraArgs:
    """Make an optax gradient transformation of an algorithm, for an existing optax training loop.

    `update(signal, state, params, value=loss)` returns the difference between new and old parameters, so
    `optax.apply_updates` or `eqx.apply_updates` gives the stepped parameters up to rounding.

    The signal is whatever the algorithm steps on, and need not look like the parameters: a gradient,
    [`metaopt.multiobjective.Gradients`][], a [`metaopt.scf.Signal`][], the residual of a fixed point. The updates
    always look like the parameters. Numbers that do not change, for want of a gradient or because they are integers,
    have an update of zero; `None` stands only for what nothing can be added to: random keys, functions, text.

    **Arguments:**

    - `algorithm`: any algorithm. Tell one that plans ahead its budget first, with [`metaopt.with_horizon`][].
    - `key`: passed to the algorithm's `init`.

    **Returns:**

    An `optax.GradientTransformationExtraArgs`. Its `update` needs `params` and uses `value`, the loss, if it is given.
    As in all of optax, other extra arguments are meant for other members of a chain, and passed over.

    **Warns:**

    - [`metaopt.MissingHorizonWarning`][]: if a part of the algorithm plans ahead and was never told its budget.
    - [`metaopt.MissingValueWarning`][]: in `update`, if a part of the algorithm looks at the loss and there is no
        `value`.
    """
    planners = sorted(set(never_told(algorithm)))
    if planners:
        warn_user(
            f"`{type(algorithm).__name__}` plans ahead (in `{'`, `'.join(planners)}`), but was never "
            f"told how many steps there will be: it takes them to be {ASSUMED_HORIZON}. Call "
            "`metaopt.to_optax(metaopt.with_horizon(algorithm, steps))`.",
            MissingHorizonWarning,
        )

    def init(params: Any) -> Any:
        if _is_placeholder(params):
            return _mirrors(algorithm, params, key)
        return algorithm.init(params, key=key)

    def update(
        updates: Any, state: Any, params: Any = None, *, value: ScalarLike | None = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        del extra_args
        if params is None:
            raise ValueError("A metaopt algorithm needs the parameters: call `tx.update(grads, state, params)`.")
        loss: Any = value
        state, new = algorithm.step(state, params, updates, value=loss)
        if _layout(new) != _layout(params):
            raise ValueError(
                f"`{type(algorithm).__name__}` returned parameters of other structure or shapes than it was given, so "
                "that there is no update to add. Call `algorithm.step(state, params, signal)` itself."
            )
        return jtu.tree_map(_difference, params, new, is_leaf=is_none), state

    return optax.GradientTransformationExtraArgs(init, update)


def _layout(params: Any) -> Any:
    leaves, structure = jtu.tree_flatten(params)
    return structure, [x.shape if eqx.is_array(x) else None for x in leaves]


def _difference(old: Any, new: Any) -> Any:
    """What is added to `old` to give `new`; `None` where nothing can be."""
    if eqx.is_inexact_array(old):
        # What is infinite or NaN stays so, whatever is added; NaN would come of the difference to itself.
        return jnp.zeros_like(old) if new is old else jnp.where(jnp.isfinite(old), new - old, jnp.zeros_like(old))
    if eqx.is_array(old):
        return None if jnp.issubdtype(old.dtype, jax.dtypes.extended) else jnp.zeros_like(old)
    return type(old)(0) if type(old) in (int, float, complex) else None


def _is_placeholder(params: PyTree) -> bool:
    # `optax.tree.map_params` asks `init` with a private node that has no leaves.
    return type(params).__module__.startswith("optax.") and not jtu.tree_leaves(params)


def _mirrors(algorithm: AbstractAlgorithm[Any, Any, Any], placeholder: PyTree, key: PRNGKeyArray | None) -> PyTree:
    """A state with the placeholder where it mirrors the parameters: has one array of their shape for each of them.

    Where it has more for each parameter, a word stands for all of it, so that nobody takes it for parameters.
    """
    parameter = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    state = algorithm.init(placeholder, key=key)
    probed = eqx.filter_eval_shape(lambda params: algorithm.init(params, key=key), parameter)

    def one(node: Any, seen: Any) -> Any:
        if not isinstance(node, type(placeholder)):
            return node
        mirrors = isinstance(seen, jax.ShapeDtypeStruct) and seen.shape == parameter.shape
        return node if mirrors else "memory of each parameter"

    return jtu.tree_map(one, state, probed, is_leaf=lambda node: isinstance(node, type(placeholder)))
