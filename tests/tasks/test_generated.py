import math
from collections import Counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.tasks import (
    AttentionNetwork,
    Bucket,
    BucketTask,
    Diffusion,
    DigitsConv,
    Generated,
    RecurrentNetwork,
    SupervisedTask,
    TaskDistribution,
    TextSource,
    WaveSource,
    generate,
)
from metaopt.tasks.data._text import ALPHABET, text
from metaopt.tasks.networks._sequence_networks import attend


pytest.importorskip("sklearn")
pytest.importorskip("mnist1d")

FAMILIES = [
    Generated(width=4),
    Generated(width=4, depth=2, criterion="squared_error", condition=100.0, start_scale=2.0),
    Generated(data="digit_images", width=4, criterion="huber"),
    Generated(data="mnist_1d", width=4, activation="gelu"),
    Generated(data="waves", width=4, criterion="squared_error"),
    Generated(data="text", width=4),
    Generated(architecture="convolutional", width=2, depth=2),
    Generated(architecture="recurrent", data="mnist_1d", width=4),
    Generated(architecture="attention", data="text", width=4, split="held_out"),
]


_SOME = [x if i in (1, 7) else pytest.param(x, marks=pytest.mark.slow) for i, x in enumerate(FAMILIES)]


@pytest.mark.parametrize("family", _SOME, ids=lambda f: f"{f.architecture}-{f.data}")
def test_tasks_can_be_batched_and_descended_on(family):
    @eqx.filter_jit
    def run(keys):
        def one(key):
            task = family.sample(key=key)
            params = task.init(key=key)
            value, grads = task.evaluate(params, key=key)
            lower = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
            return value, task.loss(lower, key=key), task.measure(params, key=key)

        return jax.vmap(one)(keys)

    before, after, measured = run(jr.split(jr.key(0), 3))
    assert bool(jnp.all(after < before)) and bool(jnp.all(jnp.isfinite(measured)))
    assert not bool(jnp.all(measured == measured[0]))


def test_what_does_not_go_together_is_told():
    with pytest.raises(ValueError, match="`architecture='convolutional'` does not go with `data='text'`; .*`dense`"):
        Generated(architecture="convolutional", data="text")
    with pytest.raises(ValueError, match="`criterion='huber'` does not go with `data='text'`; `cross_entropy` would"):
        Generated(data="text", criterion="huber")
    with pytest.raises(ValueError, match="`condition`"):
        Generated(condition=0.5)


def test_criteria_against_numpy(getkey):
    source = WaveSource(jnp.ones((2, 1)), jnp.ones((1, 3)), jnp.zeros(1), jnp.ones(3), jr.key(0))
    errors = {}
    for criterion in ("squared_error", "huber"):
        network = Generated(data="waves", width=4, criterion=criterion).network(source)
        task = SupervisedTask(network, source, jnp.asarray(3.0), criterion)
        params = task.init(key=jr.key(1))
        inputs, targets = source.measured()
        error = np.asarray(network.apply(params, inputs) - targets, float)
        huber = np.where(np.abs(error) < 1, error**2 / 2, np.abs(error) - 0.5)
        expected = np.mean(error**2 if criterion == "squared_error" else huber)
        errors[criterion] = float(task.measure(params, key=getkey()))
        np.testing.assert_allclose(errors[criterion], expected, rtol=1e-5)
    assert errors["huber"] < errors["squared_error"]


def test_recurrent_network_against_numpy(getkey):
    network = RecurrentNetwork(3, 2, 4, 5)
    params = network.init(key=getkey())
    x = np.asarray(jr.normal(getkey(), (6, 6)), float)
    gates, candidate, readout = jax.tree.map(lambda a: np.asarray(a, float), params)
    h = np.zeros((6, 4))
    for step in range(3):
        now = x[:, 2 * step : 2 * step + 2]
        z, r = np.split(1 / (1 + np.exp(-(np.concatenate([now, h], 1) @ gates["w"] + gates["b"]))), 2, axis=1)
        n = np.tanh(np.concatenate([now, r * h], 1) @ candidate["w"] + candidate["b"])
        h = z * h + (1 - z) * n
    np.testing.assert_allclose(network.apply(params, jnp.asarray(x)), h @ readout["w"] + readout["b"], rtol=1e-5)


@pytest.mark.slow
def test_attention_sees_positions_and_nothing_later(getkey):
    network = AttentionNetwork(4, 3, 8, 2, 5)
    params = network.init(key=getkey())
    x = jr.normal(getkey(), (2, 4, 3))
    embedding = {**params[0], "positions": jr.normal(getkey(), (4, 8))}
    params = (embedding, *params[1:])
    out = network.apply(params, x.reshape(2, 12))
    swapped = network.apply(params, x[:, jnp.asarray([1, 0, 2, 3])].reshape(2, 12))
    assert not np.allclose(out, swapped)
    # The last position of a shorter sequence sees the same as that position of the longer one did.
    later = jax.grad(lambda p: jnp.sum(network.apply((({**embedding, "positions": p}), *params[1:]), x.reshape(2, 12))))
    assert bool(jnp.all(jnp.any(later(embedding["positions"]) != 0, axis=1)))
    seen = attend(jr.normal(getkey(), (1, 4, 24)), 2, causal=True)
    assert seen.shape == (1, 4, 8)
    first = jnp.zeros((1, 4, 24)).at[0, 0].set(1.0).at[0, 3].set(5.0)
    np.testing.assert_allclose(attend(first, 2, causal=True)[0, 0], jnp.ones(8), rtol=1e-5)
    with pytest.raises(ValueError, match="multiple of `heads`"):
        AttentionNetwork(4, 3, 7, 1, 5)


def test_text_is_more_predictable_than_its_letters():
    codes = np.asarray(text("train")["codes"])
    assert codes.shape == (20000,) and set(codes) <= set(range(len(ALPHABET)))

    def entropy(items):
        counts = np.asarray(list(Counter(items).values()), float)
        return -np.sum(counts / counts.sum() * np.log(counts / counts.sum()))

    letters = entropy(codes.tolist())
    given_two = entropy(list(zip(codes, codes[1:], codes[2:], strict=False))) - entropy(
        list(zip(codes, codes[1:], strict=False))
    )
    assert given_two < 0.6 * letters < 0.6 * math.log(28)
    assert text("train") != text("held_out")


def test_text_windows_end_before_their_target():
    source = TextSource(text("train"), jnp.arange(28), context=3)
    inputs, targets = source.batch(4, key=jr.key(0))
    assert inputs.shape == (4, 84)
    seen = np.argmax(np.asarray(inputs).reshape(4, 3, 28), axis=2)
    written = "".join(ALPHABET[c] for c in np.asarray(text("train")["codes"]))
    for row, target in zip(seen, np.asarray(targets), strict=True):
        assert "".join(ALPHABET[c] for c in [*row, target]) in written


@pytest.mark.slow
def test_diffusion_solves_its_equation(getkey):
    task = Diffusion(6, contrast=0.7, reaction=3.0).sample(key=getkey())
    h, a = 1 / 7, np.asarray(task.diffusion, float)
    matrix = np.diag(a[:-1] + a[1:]) - np.diag(a[1:-1], 1) - np.diag(a[1:-1], -1)
    matrix = matrix / h + h * float(task.reaction) * np.eye(6)
    u = np.asarray(jr.normal(getkey(), (6,)), float)
    error = u - np.asarray(task.solution, float)
    np.testing.assert_allclose(task.loss(jnp.asarray(u), key=getkey()), error @ matrix @ error / 2, rtol=1e-4)
    assert float(task.loss(task.solution, key=getkey())) == 0
    _, grad = task.evaluate(jnp.asarray(u), key=getkey())
    np.testing.assert_allclose(grad, matrix @ error, rtol=1e-3, atol=1e-3)
    # Against the solution of -u'' + c u = sin(pi x) with constant coefficients.
    from metaopt.tasks.families._diffusion import solve

    x = np.arange(1, 200) / 200
    found = solve(jnp.ones(200), jnp.asarray(2.0), jnp.sin(jnp.pi * jnp.asarray(x)))
    np.testing.assert_allclose(found, np.sin(np.pi * x) / (np.pi**2 + 2), rtol=2e-3)


def _generated(mixture):
    return [family for family in mixture.families if isinstance(family, Generated)]


def test_generation_is_a_function_of_its_seed_and_merges_what_is_alike():
    wanted = TaskDistribution(
        architecture={"dense": 1.0}, data={"waves": 1.0}, width={4: 1.0, 8: 1.0}, depth={1: 1.0},
        activation={"tanh": 1.0}, batch_size={8: 1.0}, criterion={"squared_error": 1.0, "cross_entropy": 5.0},
    )  # fmt: skip
    mixture = generate(20, distribution=wanted, seed=1)
    assert mixture.weights is not None and len(mixture.families) == 2 and sum(mixture.weights) == 20
    assert all(f.criterion == "squared_error" for f in _generated(mixture))
    assert eqx.tree_equal(mixture, generate(20, distribution=wanted, seed=1))
    many = _generated(generate(30, seed=0))
    assert len({f.architecture for f in many}) >= 3 and len({f.data for f in many}) >= 4


def test_a_distribution_is_fitted_to_a_few_tasks():
    prior = TaskDistribution()
    fitted = prior.fit([DigitsConv(channels=(8, 8, 8), batch_size=16)] * 2, strength=2.0)
    # (2 * 1/8 + 2) / (2 + 2) for convolutions.
    shares = {k: v / sum(fitted.architecture.values()) for k, v in fitted.architecture.items()}
    np.testing.assert_allclose(shares["convolutional"], (2 / 8 + 2) / 4, rtol=1e-6)
    assert max(fitted.width, key=fitted.width.__getitem__) == 8
    assert max(fitted.depth, key=fitted.depth.__getitem__) == 3
    assert max(fitted.batch_size, key=fitted.batch_size.__getitem__) == 16
    assert fitted.activation == {k: 2.0 * v / 5 for k, v in prior.activation.items()}
    exact = prior.fit([Generated(data="waves", criterion="huber", width=24)])
    assert exact.width[24] == 1 and exact.data["waves"] > exact.data["text"]
    with pytest.raises(ValueError, match="`examples` is empty"):
        prior.fit([])
    with pytest.raises(ValueError, match="`width` must hold probabilities"):
        TaskDistribution(width={8: 0.0})


_KINDS: dict[str, dict[str, Any]] = {
    "dense": dict(data="digits", width=5, depth=2),
    "convolutional": dict(architecture="convolutional", width=2),
    "waves": dict(data="waves", width=4, criterion="squared_error"),
    "attention": dict(architecture="attention", data="text", width=4),
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k == "dense" else pytest.mark.slow) for k in _KINDS])
def test_a_task_of_a_bucket_is_one_of_its_families(kind):
    fixed = _KINDS[kind]
    choices = ("cross_entropy", "squared_error") if "criterion" not in fixed else ("squared_error", "huber")
    smooth = ("tanh", "gelu", "silu")
    activations = {"convolutional": smooth, "attention": ("relu",)}.get(kind, ("relu", *smooth))
    families = tuple(
        Generated(**(fixed | {"activation": activation, "criterion": criterion, "batch_size": size}))
        for activation in activations
        for criterion, size in zip(choices, (5, 8), strict=True)
        if kind != "attention" or criterion == "cross_entropy"
    )
    bucket = Bucket(families)

    @jax.jit
    def both(key):
        task = bucket.sample(key=key)
        params = task.init(key=key)
        inputs, targets = task.source.batch(8, key=key)

        def plain(family):
            def loss(params):
                network = family.network(task.source)
                alone = SupervisedTask(network, task.source, task.start_scale, family.criterion, family.batch_size)
                return alone._error(params, inputs[: family.batch_size], targets[: family.batch_size])

            return jax.value_and_grad(loss)(params)

        return task.evaluate(params, key=key), [plain(family) for family in families], task.counted

    met = set()
    for seed in range(12):
        (value, grads), wanted, counted = both(jr.key(seed))
        close = [i for i, (v, _) in enumerate(wanted) if abs(float(v) - float(value)) <= 1e-6 * abs(float(v))]
        assert close, (value, wanted)
        met |= set(close)
        assert int(counted) == families[close[0]].batch_size
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, wanted[close[0]][1])
    assert len(met) >= min(3, len(families))


def test_a_bucket_draws_its_families_by_weight():
    families = (Generated(width=4, batch_size=8), Generated(width=4, batch_size=16, activation="tanh"))
    tasks = jax.vmap(lambda key: eqx.filter(Bucket(families, (1.0, 3.0)).sample(key=key), eqx.is_array))(
        jr.split(jr.key(0), 4000)
    )
    # Four standard deviations of a share among 4000.
    assert abs(float(jnp.mean(tasks.counted == 16)) - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)


def test_only_families_of_one_shape_share_a_bucket():
    with pytest.raises(ValueError, match="differ in what programs depend on"):
        Bucket((Generated(width=4), Generated(width=8)))
    with pytest.raises(ValueError, match="differ in what programs depend on"):
        Bucket((Generated(width=4), Generated(width=4, activation="elu")))
    with pytest.raises(ValueError, match="2 positive numbers"):
        Bucket((Generated(width=4), Generated(width=4, batch_size=8)), (1.0, -1.0))
    with pytest.raises(ValueError, match="`families` is empty"):
        Bucket(())


def test_a_thousand_families_are_few_buckets():
    mixture = generate(1000, seed=0, buckets=True)
    assert mixture.weights is not None and sum(mixture.weights) == 1000
    alone = generate(1000, seed=0)
    assert len(alone.families) > 500 and len(mixture.families) < 200
    assert sum(b.batch_size.size for b in mixture.families if isinstance(b, Bucket)) == len(alone.families)
    task = mixture.families[0].sample(key=jr.key(0))
    assert isinstance(task, BucketTask) and bool(jnp.isfinite(task.loss(task.init(key=jr.key(0)), key=jr.key(1))))
