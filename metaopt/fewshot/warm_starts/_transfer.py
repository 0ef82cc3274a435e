"""Parameters of one problem as the start of another one, which may have another size."""

import fnmatch
from collections.abc import Mapping
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Inexact, PyTree

from ..._core.arrays._trees import compute_dtype, path_name


Rule = Literal["pad", "crop", "project", "cold"]
Rules = tuple[tuple[str, Rule], ...]


def checked_rules(rules: Mapping[str, Rule] | Rules) -> Rules:
    """Rules as pairs, which can be hashed."""
    pairs = tuple(rules.items()) if isinstance(rules, Mapping) else rules
    for pattern, rule in pairs:
        if rule not in get_args(Rule):
            raise ValueError(
                f"The rule for `{pattern}` must be one of {', '.join(map(repr, get_args(Rule)))}, but {rule!r} was "
                "given."
            )
    return pairs


def transfer(
    source: PyTree, cold: PyTree, *, fraction: float | Float[Array, ""] = 1.0, rules: Mapping[str, Rule] | Rules = ()
) -> PyTree:
    r"""Start one problem from the parameters of another.

    $$\theta_0 = \theta_\mathrm{cold} + \alpha \, (A(\theta_\mathrm{source}) - \theta_\mathrm{cold})$$

    where $A$ adapts shapes. Both ends are exact: a source is returned bit for bit with $\alpha = 1$, the cold start
    with $\alpha = 0$, and where they agree nothing changes whatever $\alpha$ is.

    A tensor whose shape differs needs a rule, found by its path, such as `0/w` or `layers/*/bias`:

    | rule | what is taken |
    |---|---|
    | `"pad"` | the leading block that both have; entries that the source does not have stay as in the cold start |
    | `"crop"` | the leading block, of a source that is at least as large along each axis |
    | `"project"` | linear interpolation along each axis, for values on a grid of the same domain (centers of cells) |
    | `"cold"` | nothing: the cold start |

    **Arguments:**

    - `source`: the parameters of a solved problem.
    - `cold`: where the new problem would start otherwise. Its structure, shapes, dtypes, and all leaves that are not
        inexact arrays, are those of the result.
    - `fraction`: $\alpha$, between 0 and 1.
    - `rules`: from patterns of paths (of `fnmatch`) to rules; the first that fits counts. Only for tensors whose
        shapes differ, except `"cold"`, which is for all that it fits.

    **Returns:**

    The start.

    **Raises:**

    - `ValueError`: if the structures differ, if shapes differ without a rule, or a rule does not suit the shapes.
    """
    pairs = checked_rules(rules)
    wanted, given = (eqx.filter(tree, eqx.is_inexact_array) for tree in (cold, source))
    check_structure("source", given, wanted)
    fraction = jnp.asarray(fraction, jnp.result_type(float))

    def one(path: Any, old: Array, new: Array) -> Array:
        name = path_name(path)
        return _blend(old, _adapted(name, new, old, pairs), fraction)

    started = jtu.tree_map_with_path(one, wanted, given)
    return eqx.combine(started, cold)


def check_structure(what: str, given: PyTree, wanted: PyTree) -> None:
    """Check that two trees of inexact arrays have them in the same places."""
    names = [{path_name(path) for path, _ in jtu.tree_flatten_with_path(tree)[0]} for tree in (given, wanted)]
    if jtu.tree_structure(given) == jtu.tree_structure(wanted):
        return
    text = f"`{what}` must have its arrays where the parameters have them."
    missing, extra = sorted(names[1] - names[0]), sorted(names[0] - names[1])
    if missing:
        text += f" Missing: {', '.join(f'`{name}`' for name in missing[:5])}."
    if extra:
        text += f" Not wanted: {', '.join(f'`{name}`' for name in extra[:5])}."
    if not missing and not extra:
        text += f" Given {jtu.tree_structure(given)}, wanted {jtu.tree_structure(wanted)}."
    raise ValueError(text)


def _adapted(
    name: str, source: Inexact[Array, "..."], cold: Inexact[Array, "..."], rules: Rules
) -> Inexact[Array, "..."]:
    """The source in the shape of the cold start."""
    rule = next((rule for pattern, rule in rules if fnmatch.fnmatchcase(name, pattern)), None)
    if rule == "cold":
        return cold
    if source.shape == cold.shape:
        return source
    shapes = f"`{name}` has shape {source.shape} in the source and {cold.shape} in the cold start"
    if rule is None:
        raise ValueError(
            f"{shapes}, and no rule fits it. Give one by its path, such as `rules={{{name!r}: 'pad'}}`: 'pad', 'crop', "
            "'project', or 'cold'."
        )
    if source.ndim != cold.ndim:
        raise ValueError(f"{shapes}; a rule other than 'cold' needs as many axes in both.")
    if rule == "project":
        dtype = compute_dtype(source.dtype)
        return jax.image.resize(source.astype(dtype), cold.shape, "linear", antialias=False).astype(source.dtype)
    if rule == "crop" and any(a < b for a, b in zip(source.shape, cold.shape, strict=True)):
        raise ValueError(f"{shapes}; 'crop' needs a source that is at least as large. Use 'pad' or 'project'.")
    block = tuple(slice(min(a, b)) for a, b in zip(source.shape, cold.shape, strict=True))
    return cold.at[block].set(source[block].astype(cold.dtype))


def _blend(
    cold: Inexact[Array, "*s"], source: Inexact[Array, "*s"], fraction: Float[Array, ""]
) -> Inexact[Array, "*s"]:
    dtype = compute_dtype(cold.dtype)
    old, new = cold.astype(dtype), source.astype(dtype)
    part = fraction.astype(jnp.finfo(dtype).dtype).astype(dtype)
    # Neither end may be rounded, and a start that is not finite must not spoil the other end.
    return jnp.where(fraction <= 0, old, jnp.where(fraction >= 1, new, old + part * (new - old))).astype(cold.dtype)
