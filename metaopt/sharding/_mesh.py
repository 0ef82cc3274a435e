"""Meshes of devices."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from .._core.arrays._numbers import check_counts


def make_mesh(tasks: int = 1, data: int = 1, model: int = 1, *, devices: Sequence[Any] | None = None) -> Mesh:
    """Arrange devices in a mesh with the axes `tasks`, `data` and `model`.

    The tasks of a meta-gradient are spread over `tasks`, minibatches over `data`, and the parameters of one model over
    `model`. The axes are automatic: `jax.jit` partitions what is computed on such a mesh.

    **Arguments:**

    - `tasks`, `data`, `model`: how many devices lie along each axis.
    - `devices`: the devices to take the first of; by default all.

    **Raises:**

    - `ValueError`: if a size is below 1, or more devices are wanted than there are.
    """
    sizes = {"tasks": tasks, "data": data, "model": model}
    check_counts(**sizes)
    available = list(jax.devices() if devices is None else devices)
    wanted = math.prod(sizes.values())
    if wanted > len(available):
        raise ValueError(
            f"A mesh of {' x '.join(map(str, sizes.values()))} needs {wanted} devices, but there are {len(available)}. "
            "On CPU, `jax.config.update('jax_num_cpu_devices', n)` before anything runs makes more of them."
        )
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), devices=available[:wanted]
    )
