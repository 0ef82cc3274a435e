"""What the tests of learned rules share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, PyTree

from metaopt import AbstractAlgorithm
from metaopt.backend import Layer, Network
from metaopt.l2o import (
    LSTM,
    MLP,
    AdafacMLP,
    AdamHead,
    Celo,
    Celo2,
    CeloAdam,
    Controller,
    HorizonClock,
    LearnableAdam,
    LearnableSGD,
    NNAdam,
    RNNProp,
    VeLO,
)


CELLS: dict[str, Callable[[], AbstractAlgorithm[Any, Any, Any]]] = {
    "sgd": LearnableSGD,
    "momentum": lambda: LearnableSGD(momentum=0.9),
    "adam": LearnableAdam,
    "nn_adam": NNAdam,
    "controller": Controller,
    "mlp": lambda: MLP(8),
    "mlp, anchored": lambda: MLP(8, head=AdamHead(), clock=HorizonClock(50)),
    "adafac_mlp": lambda: AdafacMLP(8),
    "adafac_mlp, anchored": lambda: AdafacMLP(4, head=AdamHead(), clock=HorizonClock(50)),
    "lstm": lambda: LSTM(5),
    "lstm, anchored": lambda: LSTM(5, 1, head=AdamHead(), clock=HorizonClock(50)),
    "rnnprop": lambda: RNNProp(5),
    "rnnprop, anchored": lambda: RNNProp(5, 1, head=AdamHead(), clock=HorizonClock(50)),
}
CELLS |= {
    "celo": lambda: Celo(scheduler_size=5),
    "celo, first phase": lambda: Celo(phase=1, scheduler_size=5),
    "celo_adam": lambda: CeloAdam(scheduler_size=5),
    "celo2": lambda: Celo2(0.01, weight_decay=0.1),
    "celo2, base": lambda: Celo2(0.01, orthogonalize=False, adam_scale=None),
    "velo": lambda: VeLO(scheduler_size=5, bank_size=3),
}
SHAPES = {"scalar": (), "vector": (6,), "matrix": (4, 5), "kernel": (3, 2, 4, 5), "tall": (7, 1)}


def arrays(key: Array, scale: float = 1.0) -> dict[str, Array]:
    keys = jr.split(key, len(SHAPES))
    return {name: scale * jr.normal(k, shape) for (name, shape), k in zip(SHAPES.items(), keys, strict=True)}


def steps(cell: AbstractAlgorithm[Any, Any, Any], params: PyTree, grads: list[PyTree]) -> tuple[Any, PyTree]:
    """Take a step with each gradient, compiled once."""
    step = jax.jit(lambda c, s, p, g: c.step(s, p, g))
    state = cell.init(params)
    for grad in grads:
        state, params = step(cell, state, params, grad)
    return state, params


def by_optax(transformation: optax.GradientTransformation, params: PyTree, grads: list[PyTree]) -> PyTree:
    """The same steps by optax, which does not trace under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        state = transformation.init(params)
        for grad in grads:
            updates, state = transformation.update(grad, state, params)
            params = optax.apply_updates(params, updates)
    return params


def f64(tree: PyTree) -> PyTree:
    return jtu.tree_map(lambda x: np.asarray(x, np.float64), tree)


def shaken(cell: Any, key: Array, size: float = 0.1) -> Any:
    """A cell whose floating-point leaves are all perturbed: no term of its formula vanishes by initialization."""
    leaves, structure = jtu.tree_flatten(cell)
    keys = jr.split(key, len(leaves))
    moved = [
        leaf + size * jr.normal(k, leaf.shape, leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jtu.tree_unflatten(structure, moved)


def perceptron(network: Network, x: np.ndarray) -> np.ndarray:
    """A network in NumPy; features are the last axis."""
    for index, layer in enumerate(network.layers):
        x = x @ np.asarray(layer.weight).T + np.asarray(layer.bias)
        x = x if index == len(network.layers) - 1 else np.maximum(x, 0)
    return x


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(layer: Any, hidden: np.ndarray, cell: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A layer of long short-term memory in NumPy; features are the last axis."""
    inputs: Layer = layer.inputs
    z = x @ np.asarray(inputs.weight).T + hidden @ np.asarray(layer.recurrent).T + np.asarray(inputs.bias)
    i, g, f, o = np.split(z, 4, axis=-1)
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


TANH_TIMES = np.array([1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000.0])


def decays(leaf: Array) -> np.ndarray:
    return 1 - np.exp(np.asarray(leaf))
