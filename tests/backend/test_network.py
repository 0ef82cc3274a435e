"""The network that kernels apply."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt.backend import Layer, Network


def test_it_is_a_multilayer_perceptron(getkey: Callable[[], jax.Array]) -> None:
    network = Network.create([3, 5, 2], key=getkey())
    x = jax.random.normal(getkey(), (3, 7))
    first, last = (np.asarray(layer.weight, np.float64) for layer in network.layers)
    wanted = last @ np.maximum(first @ np.asarray(x, np.float64), 0)
    np.testing.assert_allclose(network(x), wanted, rtol=1e-5, atol=1e-6)


def test_weights_have_the_promised_scale(getkey: Callable[[], jax.Array]) -> None:
    layer = Layer.create(200, 100, scale=0.5, key=getkey())
    # A normal distribution truncated at two standard deviations has 0.880 of the standard deviation.
    np.testing.assert_allclose(jnp.std(layer.weight), 0.88 * 0.5 / 10, rtol=0.03)
    assert float(jnp.max(jnp.abs(layer.weight))) <= 2 * 0.5 / 10
    assert not jnp.any(layer.bias)


def test_output_scale_scales_the_last_layer_alone(getkey: Callable[[], jax.Array]) -> None:
    key = getkey()
    plain, quiet = Network.create([4, 8, 2], key=key), Network.create([4, 8, 2], output_scale=0.01, key=key)
    np.testing.assert_array_equal(plain.layers[0].weight, quiet.layers[0].weight)
    np.testing.assert_allclose(plain.layers[1].weight * 0.01, quiet.layers[1].weight, rtol=1e-6)


@pytest.mark.parametrize("sizes", [[3], [3, 0, 2]])
def test_impossible_sizes_are_refused(sizes: list[int], getkey: Callable[[], jax.Array]) -> None:
    with pytest.raises(ValueError, match="at least two sizes of at least 1"):
        Network.create(sizes, key=getkey())
