"""How algorithms read parameters and gradients leaf by leaf."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, PyTree


T = TypeVar("T")


def is_none(x: Any) -> bool:
    return x is None


def path_name(path: Any) -> str:
    """The path of a leaf as one would type it: `2/w` for `params[2]["w"]`, `head/weight` for `params.head.weight`."""
    return jtu.keystr(path, simple=True, separator="/")


class Leaf(NamedTuple):
    """One parameter array with its gradient and its place in the tree."""

    position: int
    path: str
    param: Inexact[Array, "..."]
    grad: Inexact[Array, "..."]


class Matched(NamedTuple):
    """Parameters and gradients, matched leaf by leaf. Made by [`metaopt._core.arrays._trees.match`][]."""

    leaves: list[Leaf]
    structure: Any
    values: list[Any]

    def rebuild(self, new: Sequence[Array]) -> Any:
        """Put one new array per matched leaf back into the tree, everything else untouched."""
        values = list(self.values)
        for leaf, array in zip(self.leaves, new, strict=True):
            values[leaf.position] = array
        return jtu.tree_unflatten(self.structure, values)

    def pick(self, tree: PyTree) -> list[Any]:
        """The subtrees of `tree` (a state that mirrors the parameters) that stand at the matched leaves."""
        entries = self.structure.flatten_up_to(tree)
        return [entries[leaf.position] for leaf in self.leaves]

    def put(self, tree: T, new: Sequence[Any]) -> T:
        """The inverse of `pick`: `tree` with new subtrees at the matched leaves."""
        entries = self.structure.flatten_up_to(tree)
        for leaf, entry in zip(self.leaves, new, strict=True):
            entries[leaf.position] = entry
        return jtu.tree_unflatten(self.structure, entries)


def trainable(params: PyTree) -> PyTree:
    """Keep the leaves that an algorithm may change (inexact arrays) and put `None` elsewhere."""
    return eqx.filter(params, eqx.is_inexact_array)


def started(params: T) -> T:
    """Parameters to start from, of which something can be trained.

    Where no leaf is an array of floating-point numbers, Python's own floats become such arrays. Beside such arrays they
    are constants, as everywhere else.

    **Raises:**

    - `ValueError`: if there is nothing to train.
    """
    leaves = jtu.tree_leaves(params)
    if any(eqx.is_inexact_array(x) for x in leaves):
        return params
    if any(isinstance(x, float | complex) for x in leaves):
        return jtu.tree_map(
            lambda x: jnp.asarray(x, jnp.result_type(type(x))) if type(x) in (float, complex) else x, params
        )
    kinds = sorted({f"{x.dtype} array" if eqx.is_array(x) else type(x).__name__ for x in leaves})
    raise ValueError(
        "There is nothing to train in `params`: no leaf is an array of floating-point numbers. "
        f"Given: {', '.join(kinds) or 'no leaves'}. Write `0.0` in the place of `0`, or `jnp.asarray(x, float)`."
    )


def match(params: PyTree, grads: PyTree) -> Matched:
    """Match gradients to parameters.

    **Arguments:**

    - `params`: any pytree.
    - `grads`: the same structure, with `None` where a leaf has no gradient.

    **Returns:**

    The leaves that are inexact arrays and have a gradient, with what is needed to rebuild the tree.

    **Raises:**

    - `ValueError`: if the structures or the shapes differ.
    - `TypeError`: if a gradient is not an inexact array, or is complex where its parameter is real.
    """
    with_paths, structure = jtu.tree_flatten_with_path(params, is_leaf=is_none)
    try:
        grad_leaves = structure.flatten_up_to(grads)
    except (ValueError, TypeError) as error:
        raise ValueError(_structure_text(params, grads)) from error
    leaves = []
    for position, ((path, param), grad) in enumerate(zip(with_paths, grad_leaves, strict=True)):
        if grad is None or not eqx.is_inexact_array(param):
            continue
        name = "params" + jtu.keystr(path)
        _check_gradient(name, param, grad)
        leaves.append(Leaf(position, name, jnp.asarray(param), jnp.asarray(grad)))
    return Matched(leaves, structure, [leaf for _, leaf in with_paths])


def _check_gradient(name: str, param: Array | np.ndarray, grad: Any) -> None:
    if not eqx.is_array(grad):
        raise ValueError(
            f"The gradient of `{name}` is a `{type(grad).__name__}`, but an array of shape {param.shape} was wanted. "
            "Pass gradients with the structure of the parameters, and `None` where there is no gradient."
        )
    if not jnp.issubdtype(grad.dtype, jnp.inexact):
        raise TypeError(
            f"The gradient of `{name}` has dtype {grad.dtype}, but a floating-point gradient was wanted. "
            "Differentiate with `eqx.filter_grad`, which gives `None` for integer leaves."
        )
    if jnp.iscomplexobj(grad) and not jnp.iscomplexobj(param):
        raise TypeError(f"The gradient of `{name}` is complex ({grad.dtype}), but the parameter is {param.dtype}.")
    if grad.shape != param.shape:
        raise ValueError(f"The gradient of `{name}` has shape {grad.shape}, but the parameter has shape {param.shape}.")


def _structure_text(params: PyTree, grads: PyTree) -> str:
    names = [{jtu.keystr(p) for p, _ in jtu.tree_flatten_with_path(t, is_leaf=is_none)[0]} for t in (params, grads)]
    missing, extra = sorted(names[0] - names[1]), sorted(names[1] - names[0])
    text = "`grads` must have the same pytree structure as `params`."
    if missing:
        text += f" No gradient for: {', '.join('`params' + name + '`' for name in missing[:5])}."
    if extra:
        text += f" Not among the parameters: {', '.join('`grads' + name + '`' for name in extra[:5])}."
    if not missing and not extra:
        text += f" Given {jtu.tree_structure(grads)}, wanted {jtu.tree_structure(params)}."
    return text + " Differentiate with `eqx.filter_grad`, and put `None` where a leaf has no gradient."


def compute_dtype(dtype: Any) -> Any:
    """The dtype in which accumulators of a parameter are kept: its own, but at least 32 bits."""
    # Not by promotion, which raises under `jax_numpy_dtype_promotion="strict"`.
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def rounded(x: Inexact[Array, "*s"], dtype: Any) -> Inexact[Array, "*s"]:
    """A number in a dtype of less bits than it was computed in. What is finite stays finite: beyond the largest number
    of the dtype there is that number."""
    if x.dtype == dtype or jnp.iscomplexobj(x):
        return x.astype(dtype)
    top = float(jnp.finfo(dtype).max)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -top, top), x).astype(dtype)


def widest(dtypes: Sequence[Any]) -> Any:
    """The dtype that holds all of these (at least float32), whatever the promotion setting."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(jnp.float32, *dtypes)


def select(condition: Bool[Array, ""], on_true: PyTree[Any, "T"], on_false: PyTree[Any, "T"]) -> PyTree[Any, "T"]:
    """`jnp.where` over the array leaves of two trees of the same structure."""

    def one(a: Any, b: Any) -> Any:
        return jax.lax.select_n(condition, b, a) if _is_key(a) else jnp.where(condition, a, b)

    return jtu.tree_map(lambda a, b: one(a, b) if eqx.is_array(a) else a, on_true, on_false)


def _is_key(x: Any) -> bool:
    return eqx.is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def pulled(params: PyTree, grads: T, start: PyTree, rate: Float[Array, ""], weights: PyTree = None) -> T:
    r"""The gradient with that of a quadratic penalty added: $g + \lambda F \odot (\theta - \theta_0)$.

    The weights $F$ have the structure of the parameters; without them they are ones.
    """
    matched = match(params, grads)
    shares = [None] * len(matched.leaves) if weights is None else matched.pick(weights)

    def one(leaf: Leaf, start: Inexact[Array, "*s"], share: Float[Array, "*s"] | None) -> Inexact[Array, "*s"]:
        dtype = compute_dtype(leaf.param.dtype)
        away = rate.astype(jnp.finfo(dtype).dtype) * (leaf.param.astype(dtype) - start.astype(dtype))
        away = away if share is None else away * share.astype(dtype)
        return rounded(leaf.grad.astype(dtype) + away, leaf.grad.dtype)

    triples = zip(matched.leaves, matched.pick(start), shares, strict=True)
    return matched.put(grads, [one(*triple) for triple in triples])


def global_norm(tree: PyTree) -> Float[Array, ""]:
    r"""The Euclidean norm $\sqrt{\sum_i |x_i|^2}$ over all inexact leaves, accumulated in at least 32 bits.

    Its derivative at zero is zero. Where the squares are too large or too small for their dtype, it is taken of the
    numbers divided by the largest of them.
    """
    leaves = [x for x in jtu.tree_leaves(tree) if eqx.is_inexact_array(x)]

    def squares(scale: Array | None) -> Array:
        def one(x: Array) -> Array:
            x = jnp.abs(x.astype(compute_dtype(x.dtype)))
            return jnp.sum(jnp.square(x if scale is None else x / scale.astype(x.dtype)))

        return add_up([one(x) for x in leaves])

    def root(total: Array) -> Array:
        is_zero = total == 0
        return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, total)))

    def rescaled() -> Array:
        top = largest(leaves).astype(total.dtype)
        usable = (top > 0) & jnp.isfinite(top)
        scale = jax.lax.stop_gradient(jnp.where(usable, top, 1))
        return scale * root(squares(scale))

    total = squares(None)
    limits = jnp.finfo(total.dtype)
    usual = (total > limits.tiny / limits.eps) & (total < jnp.inf)
    return jax.lax.cond(usual, lambda: root(total), rescaled)


def largest(tree: PyTree) -> Float[Array, ""]:
    """The largest magnitude over all inexact leaves, in at least 32 bits: one reduction, which cannot overflow. It is
    NaN or infinite if any number is, and zero if there are none."""
    tops = [
        jnp.max(jnp.abs(x), initial=0).astype(compute_dtype(jnp.abs(x).dtype))
        for x in jtu.tree_leaves(tree)
        if eqx.is_inexact_array(x)
    ]
    dtype = widest([top.dtype for top in tops])
    return jnp.max(jnp.stack([top.astype(dtype) for top in tops])) if tops else jnp.zeros((), jnp.float32)


def add_up(scalars: Sequence[Array]) -> Array:
    """Add scalars of mixed precision in the widest of their dtypes (float32 zero if there are none)."""
    if not scalars:
        return jnp.zeros((), jnp.float32)
    dtype = widest([s.dtype for s in scalars])
    return sum((s.astype(dtype) for s in scalars[1:]), start=scalars[0].astype(dtype))


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every inexact leaf is finite everywhere."""
    leaves = [jnp.all(jnp.isfinite(x)) for x in jtu.tree_leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)


def spoiled(old: PyTree, new: PyTree) -> Bool[Array, ""]:
    """Whether a step from `old` to `new` made a finite number infinite or NaN.

    Parameters that hold infinities from the start, such as a mask that nobody trains, do not count.
    """

    def one(a: Any, b: Any) -> Any:
        return jnp.any(jnp.isfinite(a) & ~jnp.isfinite(b)) if eqx.is_inexact_array(a) else None

    found = jtu.tree_leaves(jtu.tree_map(one, old, new))
    return jnp.any(jnp.stack(found)) if found else jnp.asarray(False)


def map_arrays(fn: Callable[[Array], Any], tree: PyTree) -> PyTree:
    """`tree_map` over the inexact-array leaves only."""
    return jtu.tree_map(lambda x: fn(x) if eqx.is_inexact_array(x) else x, tree)
