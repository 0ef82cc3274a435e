"""Which memory a state may hold: its own."""

import functools as ft
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


T = TypeVar("T")


def own(tree: T, *others: Any) -> T:
    """The same tree, with arrays that share memory neither with each other nor with those of `others`.

    A buffer can be donated once, and what shares it is gone with it. Arrays that share one are copied, each to the
    devices on which it lies; all others stay what they are. Traced arrays have no buffers yet: of these, the ones that
    are the same are copied, so that no transformation hands one buffer out twice.
    """
    taken = {buffer for leaf in jtu.tree_leaves(others) for buffer in _buffers(leaf)}

    def one(leaf: Any) -> Any:
        if not taken.isdisjoint(_buffers(leaf)):
            leaf = leaf.copy() if isinstance(leaf, np.ndarray) else jnp.copy(leaf)
        taken.update(_buffers(leaf))
        return leaf

    return jtu.tree_map(one, tree)


def owning_init(cls: type) -> None:
    """Have the states that `cls.init` makes own their arrays, whoever writes the method."""
    init = cls.__dict__.get("init")
    if init is None or getattr(init, "__isabstractmethod__", False):
        return

    @ft.wraps(init)
    def owner(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return own(init(self, *args, **kwargs), self, args, kwargs)

    # A new attribute of a class, which `type.__setattr__` does not refuse.
    setattr(cls, "init", owner)  # noqa: B010


def _buffers(leaf: Any) -> list[Any]:
    """What tells the memory of a leaf from that of others; nothing if it is no array, or is deleted."""
    if isinstance(leaf, np.ndarray):
        return [leaf.__array_interface__["data"][0]]
    if not eqx.is_array(leaf):
        return []
    if isinstance(leaf, Tracer):
        return [id(leaf)]
    if leaf.is_deleted():
        return []
    try:
        # Of an array that is still being computed XLA may not know the place yet, and then it ends the process.
        return _pointers(leaf.block_until_ready())
    except RuntimeError:  # a platform that does not tell where its arrays lie
        return [id(leaf)]


def _pointers(array: Array) -> list[tuple[Any, int]]:
    if len(array.sharding.device_set) == 1 and array.is_fully_addressable:
        (device,) = array.sharding.device_set
        return [(device, array.unsafe_buffer_pointer())]
    return [(shard.device, shard.data.unsafe_buffer_pointer()) for shard in array.addressable_shards]
