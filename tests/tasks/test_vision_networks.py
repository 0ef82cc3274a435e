"""Residual networks, vision transformers and mixers against NumPy and XLA's convolutions."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import metaopt
from metaopt.tasks import MLPMixer, ResidualNetwork, Supervised, VisionTransformer


NETWORKS = {
    "transformer": VisionTransformer(side=4, patch=2, width=6, blocks=1, outputs=3),
    "mixer": MLPMixer(side=4, patch=2, width=6, hidden=5, blocks=1, outputs=3),
    "residual": ResidualNetwork(side=5, channels=(2, 3), outputs=3, activation="tanh"),
}


def _drawn(network, seed=0):
    """Parameters of which none has the value that it begins with."""
    params, numbers = jax.jit(lambda: network.init(key=jr.key(seed)))(), np.random.default_rng(seed)
    return jtu.tree_map(lambda x: x + 0.3 * jnp.asarray(numbers.normal(size=x.shape), x.dtype), params)


def _count(network):
    return sum(x.size for x in jtu.tree_leaves(jax.eval_shape(lambda: network.init(key=jr.key(0)))))


def _layer_norm(layer, x, axes=(-1,)):
    x = np.asarray(x, np.float64)
    centered = x - x.mean(axes, keepdims=True)
    normal = centered / np.sqrt((centered**2).mean(axes, keepdims=True) + 1e-5)
    return normal * np.asarray(layer["gain"]) + np.asarray(layer["shift"])


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _affine(layer, x):
    return x @ np.asarray(layer["w"], np.float64) + np.asarray(layer["b"], np.float64)


def _tokens(image):
    return np.stack([image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel() for i in range(2) for j in range(2)])


def test_a_vision_transformer_is_what_its_formula_says():
    network = NETWORKS["transformer"]
    params, images = _drawn(network), np.asarray(jr.normal(jr.key(5), (3, 4, 4)))
    embedding, qkv, out, widen, narrow, readout = params
    for image, found in zip(images, jax.jit(network.apply)(params, jnp.asarray(images.reshape(3, 16))), strict=True):
        h = _affine(embedding, _tokens(image)) + np.asarray(embedding["positions"])
        query, key, value = np.split(_affine(qkv, _layer_norm(qkv, h)), 3, axis=1)
        heads = []
        for own in (slice(0, 3), slice(3, 6)):
            scores = np.exp(query[:, own] @ key[:, own].T / np.sqrt(3))
            heads.append(scores / scores.sum(1, keepdims=True) @ value[:, own])
        h = h + _affine(out, np.concatenate(heads, 1))
        h = h + _affine(narrow, _gelu(_affine(widen, _layer_norm(widen, h))))
        wanted = _affine(readout, _layer_norm(readout, h).mean(0))
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


def test_a_mixer_is_what_its_formula_says():
    network = NETWORKS["mixer"]
    params, images = _drawn(network), np.asarray(jr.normal(jr.key(5), (3, 4, 4)))
    embedding, first, second, widen, narrow, readout = params
    for image, found in zip(images, jax.jit(network.apply)(params, jnp.asarray(images.reshape(3, 16))), strict=True):
        h = _affine(embedding, _tokens(image))
        h = h + _affine(second, _gelu(_affine(first, _layer_norm(first, h).T))).T
        h = h + _affine(narrow, _gelu(_affine(widen, _layer_norm(widen, h))))
        wanted = _affine(readout, _layer_norm(readout, h).mean(0))
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("layout", ["HWIO", "OIHW"])
def test_a_residual_network_is_one_of_convolutions(layout):
    network = ResidualNetwork(side=5, channels=(2, 3), outputs=3, activation="tanh", layout=layout)
    params, images = _drawn(network), jr.normal(jr.key(5), (3, 5, 5))

    def convolve(layer, x, stride):
        dimensions = ("NHWC", layout, "NHWC")
        found = jax.lax.conv_general_dilated(
            x, layer["w"], (stride, stride), [(1, 1)] * 2, dimension_numbers=dimensions
        )
        return jnp.asarray(_layer_norm(layer, found, (1, 2, 3)), x.dtype)

    stem, first, second, third, fourth, skip, readout = params
    h = jnp.tanh(convolve(stem, images[..., None], 1))
    h = jnp.tanh(h + convolve(second, jnp.tanh(convolve(first, h, 1)), 1))
    h = jnp.tanh(h[:, ::2, ::2] @ skip["w"] + convolve(fourth, jnp.tanh(convolve(third, h, 2)), 1))
    wanted = _affine(readout, np.asarray(h, np.float64).mean((1, 2)))
    np.testing.assert_allclose(jax.jit(network.apply)(params, images.reshape(3, 25)), wanted, rtol=2e-4, atol=2e-5)


def test_both_layouts_are_one_function():
    first, second = (ResidualNetwork(8, (2, 4), 3, layout=layout) for layout in ("HWIO", "OIHW"))
    params, inputs = first.init(key=jr.key(0)), jr.normal(jr.key(1), (2, 64))
    other = second.init(key=jr.key(0))
    assert {leaf.shape for leaf in jtu.tree_leaves(other)} >= {(2, 1, 3, 3), (4, 2, 3, 3), (4, 4, 3, 3)}
    np.testing.assert_array_equal(first.apply(params, inputs), second.apply(other, inputs))


def test_parameters_are_as_many_as_formulas_say():
    w, t = 6, 4
    block = 3 * w * w + 3 * w + w * w + w + 2 * w * w + 2 * w + 2 * w * w + w
    assert _count(NETWORKS["transformer"]) == (4 * w + w + t * w) + block + (w * 3 + 3) + 3 * 2 * w
    mixing = t * 5 + 5 + 5 * t + t + w * 10 + 10 + 10 * w + w
    assert _count(NETWORKS["mixer"]) == (4 * w + w) + mixing + (w * 3 + 3) + 3 * 2 * w
    kernels = 9 * (1 * 2 + 2 * 2 + 2 * 2 + 2 * 3 + 3 * 3) + 2 * 3
    assert _count(NETWORKS["residual"]) == kernels + 2 * (2 + 2 + 2 + 3 + 3) + 3 * 3 + 3


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_finite_differences(name):
    network = NETWORKS[name]
    params, inputs = _drawn(network), jr.normal(jr.key(3), (2, 25 if name == "residual" else 16))

    @jax.jit
    def slopes(params, direction):
        def value(t):
            moved = jtu.tree_map(lambda p, d: p + t * d, params, direction)
            return jnp.sum(jnp.sin(network.apply(moved, inputs)))

        return jax.grad(value)(0.0), (value(1e-2) - value(-1e-2)) / 2e-2

    exact, differences = slopes(params, _drawn(network, 7))
    np.testing.assert_allclose(exact, differences, rtol=2e-2, atol=1e-3)


def test_patches_know_where_they_are_by_positions_alone():
    network = NETWORKS["transformer"]
    params = network.init(key=jr.key(0))
    image = np.asarray(jr.normal(jr.key(1), (4, 4)))
    turned = np.roll(image, 2, axis=0)
    found = network.apply(params, jnp.stack([image.ravel(), turned.ravel()]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    moved = network.apply(_drawn(network), jnp.stack([image.ravel(), turned.ravel()]))
    assert float(jnp.max(jnp.abs(moved[0] - moved[1]))) > 1e-2


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VisionTransformer(8, 3, 4, 1, 2), "`side` must be a multiple of `patch`, but 8 and 3"),
        (lambda: VisionTransformer(8, 2, 5, 1, 2), "`width` must be a multiple of `heads`"),
        (lambda: MLPMixer(8, 3, 4, 4, 1, 2), "`side` must be a multiple of `patch`"),
        (lambda: ResidualNetwork(8, (), 2), "`channels`"),
    ],
)
def test_wrong_sizes_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_any_network_is_trained_on_the_data_of_generated_tasks():
    pytest.importorskip("sklearn")
    family = Supervised(ResidualNetwork(side=8, channels=(2, 3), outputs=10), batch_size=8, start_scale=2.0)

    @jax.jit
    def run(key):
        task = family.sample(key=key)
        params = task.init(key=key)
        value, grads = task.evaluate(params, key=key)
        lower = jtu.tree_map(lambda p, g: p - 0.01 * g, params, grads)
        return value, task.loss(lower, key=key)

    before, after = run(jr.key(0))
    assert float(after) < float(before)
    spec = {"name": "supervised", "network": {"name": "mlp_mixer", "side": 8, "patch": 4, "width": 4, "hidden": 3,
            "blocks": 1, "outputs": 10}}  # fmt: skip
    assert metaopt.build(spec, metaopt.AbstractTaskFamily) == Supervised(MLPMixer(8, 4, 4, 3, 1, 10))
    with pytest.raises(ValueError, match="`MLPMixer` has 4 outputs, but `data='digits'` needs 10"):
        Supervised(MLPMixer(8, 4, 4, 3, 1, 4))
    with pytest.raises(ValueError, match=r"cannot read the 64 numbers .* \(images of 8 x 8 pixels\)"):
        Supervised(VisionTransformer(9, 3, 4, 1, 10))
