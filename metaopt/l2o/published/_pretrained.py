"""Weights that come with metaopt."""

from importlib import resources
from typing import cast

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from ..._core import Learner, load, read_header
from ..rules._recurrent_controller import RecurrentController


_NAMES = ("general", "small")


def pretrained(name: str = "general", *, warmup: float = 0.03) -> RecurrentController:
    """Load a learned optimizer whose weights come with metaopt, and which needs no tuning.

    - `"general"`: a [`metaopt.l2o.RecurrentController`][] that orthogonalizes the steps of matrices.
    - `"small"`: the same without products of matrices, for a step that costs little more than Adam's.

    Both plan ahead: the drivers tell them how many steps there will be; in a loop of your own it is
    [`metaopt.with_horizon`][]. Both were made by `python -m metaopt run pretrain-general` and `pretrain-small`, on
    small networks without norms and residual paths. On tasks unlike these they may fail (`"general"` ends at chance on
    a residual convolutional network with affine norms): try them beside a tuned optimizer first.

    **Arguments:**

    - `name`: which.
    - `warmup`: over which part of the steps the rate rises. They were trained without (0), but then some deep networks
        collapse; `"small"` still loses many of these with less than 0.1.

    **Returns:**

    The algorithm.

    **Raises:**

    - `ValueError`: if there is no such optimizer, or `warmup` is outside of $[0, 1)$.
    """
    if name not in _NAMES:
        known = ", ".join(f"`{word}`" for word in _NAMES)
        raise ValueError(f"`name` must be one of {known}, but {name!r} was given.")
    with resources.as_file(resources.files("metaopt.l2o").joinpath("weights", f"{name}.metaopt")) as path:
        options = read_header(path)["metadata"]["spec"]["algorithm"]
        given = {key: value for key, value in options.items() if key not in ("name", "warmup")}
        rule = RecurrentController(**given, warmup=warmup)
        return cast(RecurrentController, load(path, jtu.tree_map(_single, Learner(rule))).algorithm)


def _single(x: Array) -> Array:
    """Weights are stored in single precision, whatever the precision of the moment."""
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
