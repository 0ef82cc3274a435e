"""Networks against independent ones, and how they start."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special

from metaopt.tasks import AbstractNetwork, ConvolutionalNetwork, DenseNetwork


ACTIVATIONS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * scipy.special.expit(x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
}


def _moved(network: AbstractNetwork, getkey: Any) -> Any:
    """Parameters with biases that are not zero."""
    generator = np.random.default_rng(0)
    start = jax.jit(lambda key: network.init(key=key))(getkey())
    return jax.tree_util.tree_map(lambda x: x + generator.normal(size=x.shape), start)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_network_by_hand(activation: Any, getkey: Any, x64: None) -> None:
    network = DenseNetwork((3, 5, 4, 2), activation)
    params = _moved(network, getkey)
    inputs = jr.normal(getkey(), (7, 3))
    values = np.asarray(inputs)
    for layer in params[:-1]:
        values = ACTIVATIONS[activation](np.einsum("ni,io->no", values, layer["w"]) + np.asarray(layer["b"]))
    wanted = np.einsum("ni,io->no", values, params[-1]["w"]) + np.asarray(params[-1]["b"])
    np.testing.assert_allclose(network.apply(params, inputs), wanted)


@pytest.mark.parametrize("side", [1, 5, 8])
def test_convolution_is_that_of_xla(side: int, getkey: Any, x64: None) -> None:
    network = ConvolutionalNetwork(side, (3, 4), 2, "tanh")
    params = _moved(network, getkey)
    inputs = jr.normal(getkey(), (6, side * side))

    def reference(params: Any, inputs: jax.Array) -> jax.Array:
        values = inputs.reshape(6, side, side, 1)
        for layer in params[:-1]:
            values = jax.lax.conv_general_dilated(
                values, layer["w"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            values = jnp.tanh(values + layer["b"][None, None, None, :])
        return values.reshape(6, -1) @ params[-1]["w"] + params[-1]["b"][None, :]

    found, wanted = jax.jit(lambda p, x: (network.apply(p, x), reference(p, x)))(params, inputs)
    np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (DenseNetwork((64, 100, 80, 10)), [(64, 100), (100, 80), (80, 10)]),
        (ConvolutionalNetwork(8, (40, 60), 10), [(3, 3, 1, 40), (3, 3, 40, 60), (240, 10)]),
    ],
    ids=["dense", "convolutional"],
)
def test_weights_start_normal_over_root_fan_in(network: Any, shapes: list[tuple[int, ...]], getkey: Any) -> None:
    params = jax.jit(lambda key: network.init(key=key))(getkey())
    assert [layer["w"].shape for layer in params] == shapes
    for layer, shape in zip(params, shapes, strict=True):
        assert layer["b"].shape == shape[-1:] and not jnp.any(layer["b"])
        scaled = layer["w"] * np.sqrt(np.prod(shape[:-1]))
        np.testing.assert_allclose([jnp.mean(scaled), jnp.std(scaled)], [0, 1], atol=4 / np.sqrt(np.prod(shape)))
    assert not jnp.allclose(params[0]["w"].ravel()[:9], params[1]["w"].ravel()[:9])


def test_networks_hold_no_leaves() -> None:
    assert jax.tree_util.tree_leaves((DenseNetwork((2, 3)), ConvolutionalNetwork(4, (2,), 3))) == []
    assert DenseNetwork((2, 3)) != DenseNetwork((2, 4))
