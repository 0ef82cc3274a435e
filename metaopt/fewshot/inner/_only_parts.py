"""Adaptation of some parts of the parameters."""

import fnmatch
from typing import Any, TypeVar

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._trees import is_none, path_name


P = TypeVar("P")


class OnlyParts(AbstractAlgorithm[Any, Any, Any]):
    """Let the inner algorithm step on some leaves of the parameters, chosen by their paths, and leave the rest alone.

    A path is written with slashes, `2/w` for `params[2]["w"]` and `head/weight` for `params.head.weight`, and a
    pattern may have wildcards as file names do: `2/*`. The inner algorithm neither sees the other leaves nor keeps a
    state for them.

    **Arguments:**

    - `inner`: the algorithm.
    - `parts`: a pattern, or several.

    **Raises:**

    - `ValueError`: if there is no pattern; at `init`, if one matches no leaf, unless there are none.
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    parts: str | tuple[str, ...] = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not self.parts:
            raise ValueError("`parts` is empty; give the path of a leaf, or a pattern such as `2/*`.")

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> Any:
        return self.inner.init(self._split(params)[0], key=key)

    def step(self, state: Any, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[Any, P]:
        own, rest = self._split(params)
        signal = jtu.tree_map(lambda leaf, grad: None if leaf is None else grad, own, grads, is_leaf=is_none)
        state, own = self.inner.step(state, own, signal, value=value)
        return state, eqx.combine(own, rest)

    def _split(self, params: PyTree) -> tuple[PyTree, PyTree]:
        patterns = (self.parts,) if isinstance(self.parts, str) else self.parts
        names = [path_name(path) for path, _ in jtu.tree_flatten_with_path(params)[0]]
        unused = [p for p in patterns if not any(fnmatch.fnmatchcase(name, p) for name in names)]
        if names and unused:
            shown = ", ".join(f"`{name}`" for name in names[:10])
            raise ValueError(f"`{unused[0]}` matches no leaf of the parameters. Their paths are {shown}.")

        def chosen(path: Any, leaf: Any) -> bool:
            return eqx.is_inexact_array(leaf) and any(fnmatch.fnmatchcase(path_name(path), p) for p in patterns)

        return eqx.partition(params, jtu.tree_map_with_path(chosen, params))
