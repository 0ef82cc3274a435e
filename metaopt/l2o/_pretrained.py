"""Weights that come with metaopt."""

from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._core import AbstractAlgorithm, Learner, load
from ._recurrent_controller import RecurrentController


# What `learner.algorithm` of the runs `pretrain-general` and `pretrain-small` says.
_RULES: dict[str, dict[str, Any]] = {
    "general": {"hidden_size": 16},
    "small": {"hidden_size": 8, "iterations": 0},
}


def pretrained(name: str = "general") -> AbstractAlgorithm[Any, Any, Any]:
    """Load a learned optimizer whose weights come with metaopt: ready for tasks of your own, without tuning.

    - `"general"`: a [`metaopt.l2o.RecurrentController`][] that orthogonalizes the steps of matrices.
    - `"small"`: the same without products of matrices, for a step that costs little more than Adam's.

    Both plan ahead: the drivers tell them how many steps there will be; in a loop of your own it is
    [`metaopt.with_horizon`][]. Both were made by `python -m metaopt run pretrain-general` and `pretrain-small`.

    **Arguments:**

    - `name`: which.

    **Returns:**

    The algorithm.

    **Raises:**

    - `ValueError`: if there is no such optimizer.
    """
    if name not in _RULES:
        known = ", ".join(f"`{word}`" for word in _RULES)
        raise ValueError(f"`name` must be one of {known}, but {name!r} was given.")
    rule = RecurrentController(**_RULES[name])
    # Weights are stored in single precision, whatever the precision of the moment.
    like = jtu.tree_map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, Learner(rule))
    with resources.as_file(resources.files("metaopt.l2o").joinpath("weights", f"{name}.metaopt")) as path:
        learner = load(path, like)
    return jax.tree.map(jnp.asarray, learner.algorithm)
