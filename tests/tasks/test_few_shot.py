"""Few-shot classification: which classes and examples a task has, how glyphs are drawn, what networks normalize by."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

import metaopt
from metaopt import AbstractTaskFamily, Learner, from_optax, unroll
from metaopt.spec import SpecError
from metaopt.tasks import (
    AbstractClasses,
    ConvolutionalNetwork,
    Dataset,
    DenseNetwork,
    FewShot,
    FewShotTask,
    Glyphs,
    LabelledClasses,
    labelled_classes,
)
from metaopt.tasks.data._glyphs import _REACH, _ink, _letter
from metaopt.tasks.families._digits import digits
from metaopt.tasks.families._few_shot import _distinct
from metaopt.tasks.families._mnist1d import mnist1d
from tests._cases import fast, slow


SPLITS: tuple[Any, ...] = ("train", "validation", "held_out")
CALM: dict[str, Any] = {"jitter": 0.0, "deformation": 0.0}
FAMILIES = [
    FewShot(Glyphs("validation", size=6), ways=3, shots=2, queries=4, hidden=(4,)),
    FewShot(labelled_classes("digits"), ways=5, shots=1, queries=3, hidden=(4, 4), normalization="layer"),
    FewShot(labelled_classes("mnist_1d"), ways=4, shots=2, queries=2, architecture="dense", statistics="support"),
]
NAMES = ["glyphs", "digits", "mnist_1d"]
CASES = pytest.mark.parametrize("family", FAMILIES, ids=NAMES)


def _rows(examples: Any) -> list[bytes]:
    return [row.tobytes() for row in np.asarray(examples).reshape(-1, examples.shape[-1])]


def _draw(classes: AbstractClasses, numbers: Any, examples: int, key: Any) -> np.ndarray:
    return np.asarray(jax.jit(lambda key: classes.draw(jnp.asarray(numbers), examples, key=key))(key))


def _sample(family: FewShot, key: Any) -> Any:
    return jax.jit(lambda key: family.sample(key=key))(key)


def _labels(data: Dataset, examples: np.ndarray) -> list[int]:
    known = dict(zip(_rows(data["inputs"]), data["labels"], strict=True))
    return [int(known[row]) for row in _rows(examples)]


def _moved(network: Any, key: Any) -> Any:
    """Parameters whose biases and scales are not those of the start."""
    start = jax.jit(lambda key: network.init(key=key))(key)
    return jtu.tree_map(lambda x: x + 0.3 * jr.normal(key, x.shape), start)


@pytest.mark.slow
def test_no_letter_is_in_two_splits(getkey: Any) -> None:
    # Without an unsteady hand all examples of a letter are one image, up to rounding.
    images = {}
    for split in SPLITS:
        classes = Glyphs(split, size=8, **CALM, rotations=False)
        images[split] = _draw(classes, np.arange(classes.count), 1, getkey())[:, 0]
    assert [len(found) for found in images.values()] == [400, 100, 200]
    every = np.concatenate(list(images.values()))
    squares = np.sum(every**2, axis=1)
    distances = squares[:, None] + squares[None] - 2 * every @ every.T
    assert distances[~np.eye(700, dtype=bool)].min() > 0.01


def test_training_has_each_letter_in_four_orientations(getkey: Any) -> None:
    classes = Glyphs(**CALM)
    assert classes.count == 1600 and Glyphs("held_out").count == 200 and Glyphs("held_out", rotations=True).count == 800
    images = _draw(classes, 7 + 400 * np.arange(4), 1, getkey()).reshape(4, 16, 16)
    for turn in range(4):
        np.testing.assert_allclose(images[turn], np.rot90(images[0], -turn), atol=1e-4)
    assert np.abs(images[0] - images[1]).max() > 0.3


def test_letters_of_an_alphabet_share_strokes(getkey: Any) -> None:
    # The first three letters have strokes 012, 013 and 014; each is scaled and shifted as a whole.
    letters = jax.jit(jax.vmap(lambda letter: _letter(jr.key(1), letter)))(jnp.arange(3, dtype=jnp.int32))
    assert letters.shape == (3, 3, 4, 2)
    first, second, _ = np.diff(np.asarray(letters).reshape(3, 12, 2), axis=1)
    ratios = second / first
    np.testing.assert_allclose(ratios[:7], ratios[0, 0], rtol=1e-3)
    assert np.std(ratios[8:]) > 0.1
    low, high = np.asarray(letters).min((1, 2)), np.asarray(letters).max((1, 2))
    assert np.all(high - low > 0.5) and np.all(np.abs(low + high) < 2)


def test_glyphs_are_lines_of_ink_on_paper(getkey: Any) -> None:
    images = _draw(Glyphs("held_out"), np.arange(200), 5, getkey())
    assert images.min() >= 0 and images.max() <= 1
    # Mostly paper, some ink on every image, and gray edges rather than jagged ones.
    assert np.mean(images < 0.1) > 0.4
    assert np.all(images.max(axis=-1) > 0.5) and np.all(images.mean(axis=-1) < 0.6)
    assert 0.1 < np.mean((images > 0.1) & (images < 0.9)) < 0.6


def test_ink_of_a_straight_stroke_by_hand(x64: None) -> None:
    width, size, place = 0.15, 16, 0.2
    line = jnp.stack([jnp.linspace(-4.0, 4.0, 4), jnp.full(4, place)], axis=1)
    image = np.asarray(_ink(jnp.broadcast_to(line, (1, 4, 2)), jnp.asarray(width), size))
    centers = ((np.arange(size) + 0.5) / size * 2 - 1) * _REACH
    wanted = 1 - np.exp(-1.5 * np.exp(-((centers - place) ** 2) / (2 * width**2)))
    # Few places on so long a stroke: ink between them is spread unevenly.
    np.testing.assert_allclose(image[:, 4:-4].mean(axis=1), wanted, atol=0.1)


def test_examples_of_a_letter_vary_less_than_letters_do(getkey: Any) -> None:
    images = _draw(Glyphs("held_out", deformation=0.1), np.arange(0, 200, 7), 20, getkey())
    within = np.mean(np.var(images, axis=1))
    between = np.mean(np.var(images.mean(axis=1), axis=0))
    assert 0.2 * between < within < 2 * between


def test_seed_decides_the_alphabets_and_key_the_examples(getkey: Any) -> None:
    key, numbers = getkey(), np.arange(5)
    first, again = (_draw(Glyphs("held_out"), numbers, 2, key) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - _draw(Glyphs("held_out", seed=1), numbers, 2, key)).max() > 0.3
    assert np.abs(first - _draw(Glyphs("held_out"), numbers, 2, getkey())).max() > 0.3
    assert np.abs(first[:, 0] - first[:, 1]).max() > 0.3


@pytest.mark.parametrize(("data", "load"), [("digits", digits), ("mnist_1d", mnist1d)])
def test_splits_of_labelled_classes(data: Any, load: Any) -> None:
    whole = Dataset(
        "all", **{name: np.concatenate([load("train")[name], load("held_out")[name]]) for name in ("inputs", "labels")}
    )
    rows: dict[str, set[bytes]] = {}
    for split in SPLITS:
        classes = labelled_classes(data, split)
        assert classes.count == classes.group == 5
        rows[split] = set(_rows(classes.data["inputs"]))
        expected = set(range(5, 10)) if split == "held_out" else set(range(5))
        assert set(_labels(whole, classes.data["inputs"])) == expected
        assert classes.fewest == np.bincount(classes.data["labels"])[min(expected) :].min() >= 70
    assert not rows["train"] & rows["validation"]
    assert sum(map(len, rows.values())) == len(whole["labels"])


def test_labelled_examples_are_of_their_class_and_differ(getkey: Any) -> None:
    labels = np.asarray([3, 8, 8, 3, 5, 8, 3, 8, 5, 5, 3])
    data = Dataset("mine", inputs=np.arange(33.0, dtype=np.float32).reshape(11, 3), labels=labels)
    classes = LabelledClasses(data)
    assert (classes.count, classes.fewest, classes.inputs, classes.side) == (3, 3, 3, None)
    seen = set()
    for _ in range(20):
        drawn = _draw(classes, [2, 0], 3, getkey())
        assert _labels(data, drawn) == [8] * 3 + [3] * 3
        assert len(set(_rows(drawn))) == 6
        seen |= set(_rows(drawn))
    assert len(seen) == 8


@CASES
def test_tasks_are_balanced_and_support_is_not_query(family: Any, getkey: Any) -> None:
    task = _sample(family, getkey())
    assert task.support.shape == (family.ways, family.shots, family.classes.inputs)
    assert task.query.shape == (family.ways, family.queries, family.classes.inputs)
    rows = _rows(task.support) + _rows(task.query)
    assert len(set(rows)) == len(rows) == family.ways * (family.shots + family.queries)
    if isinstance(family.classes, LabelledClasses):
        data = family.classes.data
        names = np.asarray(_labels(data, task.support)).reshape(family.ways, -1)
        assert len(set(names[:, 0])) == family.ways and np.all(names == names[:, :1])
        queried = np.asarray(_labels(data, task.query)).reshape(family.ways, -1)
        np.testing.assert_array_equal(queried, np.repeat(names[:, :1], family.queries, axis=1))


def test_classes_are_those_of_one_alphabet_or_of_all(getkey: Any) -> None:
    classes = Glyphs("validation", size=8, **CALM)
    images = _draw(classes, np.arange(100), 1, getkey())[:, 0]

    def numbers(within: bool) -> np.ndarray:
        family = FewShot(classes, queries=1, within_group=within)
        tasks = jax.jit(jax.vmap(lambda key: family.sample(key=key)))(jr.split(getkey(), 200))
        distances = np.sum((np.asarray(tasks.support) - images) ** 2, axis=-1)
        return np.argmin(distances, axis=-1)

    inside, outside = numbers(True), numbers(False)
    for found in (inside, outside):
        assert all(len(set(task)) == 5 for task in found)
        assert np.bincount(found.ravel(), minlength=100).min() > 0
    assert np.all(inside // 20 == inside[:, :1] // 20)
    assert np.mean(np.all(outside // 20 == outside[:, :1] // 20, axis=1)) < 0.1


def test_distinct_numbers_are_uniform(getkey: Any) -> None:
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: _distinct(6, 3, key=key)))(jr.split(getkey(), 6000)))
    assert all(len(set(row)) == 3 for row in drawn)
    counts = np.stack([np.bincount(column, minlength=6) for column in drawn.T])
    assert np.sum((counts - 1000) ** 2 / 1000) < 50  # 15 degrees of freedom


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [FAMILIES[0], *[pytest.param(x, marks=pytest.mark.slow) for x in FAMILIES[1:]]], ids=NAMES
)
def test_batches_of_tasks_are_tasks(family: Any, getkey: Any) -> None:
    keys = jr.split(getkey(), 3)
    batch = jax.jit(jax.vmap(lambda key: family.sample(key=key)))(keys)
    params = _moved(family.network(family.ways), getkey())
    losses = jax.jit(jax.vmap(lambda task: task.measure(params, key=keys[0])))(batch)
    for index, key in enumerate(keys):
        one = _sample(family, key)
        np.testing.assert_allclose(one.support, batch.support[index], atol=1e-5)
        np.testing.assert_allclose(one.measure(params, key=keys[0]), losses[index], rtol=1e-3)
    again = jax.jit(jax.vmap(lambda key: family.sample(key=key)))(keys)
    np.testing.assert_array_equal(again.query, batch.query)


@pytest.mark.parametrize("family", fast(dict(zip(NAMES, FAMILIES, strict=True)), "glyphs", "mnist_1d"))
def test_losses_and_accuracy_by_hand(family: Any, getkey: Any) -> None:
    task = _sample(family, getkey())
    params = _moved(task.network, getkey())
    logits = np.asarray(jax.jit(lambda params: task.logits(params))(params), np.float64)
    labels = np.repeat(np.arange(family.ways), family.queries)
    wanted = -np.mean(log_softmax(logits, axis=1)[np.arange(labels.size), labels])
    np.testing.assert_allclose(task.measure(params, key=getkey()), wanted, rtol=1e-5)
    np.testing.assert_allclose(task.accuracy(params), np.mean(logits.argmax(1) == labels), rtol=1e-6)
    # The support as queries: the loss is the measure of that task.
    turned = FewShotTask(task.network, task.support, task.support, "query")
    np.testing.assert_allclose(task.loss(params, key=getkey()), turned.measure(params, key=getkey()), rtol=1e-5)
    assert task.loss(params, key=getkey()) == task.loss(params, key=getkey())


@pytest.mark.parametrize("normalization", ["batch", pytest.param("layer", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "make",
    [lambda n: DenseNetwork((9, 5, 4, 2), "tanh", n), lambda n: ConvolutionalNetwork(3, (5, 4), 2, "tanh", n)],
    ids=["dense", "convolutional"],
)
def test_normalization_by_hand(make: Any, normalization: Any, getkey: Any, x64: None) -> None:
    network = make(normalization)
    params, inputs = _moved(network, getkey()), jr.normal(getkey(), (6, 9))
    values = np.asarray(inputs)
    convolutional = isinstance(network, ConvolutionalNetwork)
    values = values.reshape(6, 3, 3, 1) if convolutional else values
    for layer in params[:-1]:
        if convolutional:
            strides = {"window_strides": (2, 2), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
            values = np.asarray(jax.lax.conv_general_dilated(jnp.asarray(values), layer["w"], **strides))
        else:
            values = values @ np.asarray(layer["w"])
        axes = tuple(range(values.ndim - 1)) if normalization == "batch" else tuple(range(1, values.ndim))
        mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
        values = np.tanh(
            (values - mean) / np.sqrt(variance + 1e-5) * np.asarray(layer["scale"]) + np.asarray(layer["b"])
        )
    features = values.reshape(6, -1)
    np.testing.assert_allclose(network.features(params, inputs), features, atol=1e-10)
    wanted = features @ np.asarray(params[-1]["w"]) + np.asarray(params[-1]["b"])
    np.testing.assert_allclose(network.apply(params, inputs), wanted, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("make", [DenseNetwork, ConvolutionalNetwork])
@pytest.mark.parametrize("normalization", [*slow("none"), "layer", "batch"])
def test_what_queries_are_normalized_by(make: Any, normalization: Any, getkey: Any, x64: None) -> None:
    sizes: Any = (6, (4, 4), 2) if make is ConvolutionalNetwork else ((36, 4, 2),)
    network = make(*sizes, normalization=normalization)
    params, support, query = _moved(network, getkey()), jr.normal(getkey(), (2, 2, 36)), jr.normal(getkey(), (2, 3, 36))

    def depends(statistics: Any, part: int) -> bool:
        """Whether the logits of the first queries change with the last query, or with the support."""

        def logits(support: Any, query: Any) -> Any:
            return jnp.sum(jnp.square(FewShotTask(network, support, query, statistics).logits(params)[:5]))

        return bool(jnp.abs(jax.jit(jax.grad(logits, part))(support, query)[-1, -1]).max() > 1e-9)

    batch = normalization == "batch"
    assert depends("query", 1) == batch and not depends("query", 0)
    assert depends("support", 0) == batch and not depends("support", 1)


def test_support_statistics_are_those_of_the_support(getkey: Any, x64: None) -> None:
    # With the support itself as queries, both choices are the same.
    network, support = DenseNetwork((9, 4, 2), normalization="batch"), jr.normal(getkey(), (2, 3, 9))
    params = _moved(network, getkey())
    by_query, by_support = (FewShotTask(network, support, support, s).logits(params) for s in ("query", "support"))
    assert jnp.abs(by_query).max() > 0.1
    np.testing.assert_allclose(by_query, by_support, atol=1e-10)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_scales_start_at_one_where_there_is_normalization(normalization: Any, getkey: Any) -> None:
    network = FewShot(Glyphs(size=8), hidden=(4, 6), normalization=normalization).network(5)
    params = network.init(key=getkey())
    scales = [layer.get("scale") for layer in params]
    assert scales[-1] is None
    for scale, size in zip(scales[:-1], (4, 6), strict=True):
        if normalization == "none":
            assert scale is None
        else:
            np.testing.assert_array_equal(scale, np.ones(size))


def test_half_precision_normalizes_in_single(getkey: Any) -> None:
    network = DenseNetwork((4, 6, 2), normalization="batch")
    params = jax.jit(lambda key: network.init(key=key))(getkey())
    # Far from zero the variance of half-precision numbers would be lost.
    inputs = jr.normal(getkey(), (64, 4))
    half = jtu.tree_map(lambda x: x.astype(jnp.bfloat16), params)
    found, wanted = network.features(half, inputs), network.features(params, inputs)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=0.1)


@pytest.mark.slow
def test_training_on_the_support_classifies_queries(getkey: Any) -> None:
    family = FewShot(labelled_classes("digits", "held_out"), shots=5, architecture="dense", hidden=(32,))
    learner = Learner(from_optax(optax.sgd, learning_rate=0.3))

    def score(key: Any) -> Any:
        task = family.sample(key=key)
        return task.accuracy(unroll(learner, task, steps=20, key=key).params)

    assert jnp.mean(jax.jit(jax.vmap(score))(jr.split(getkey(), 20))) > 0.75


def test_family_from_a_spec() -> None:
    spec = {"name": "few_shot", "ways": 3, "classes": {"name": "glyphs", "split": "held_out"}, "normalization": "layer"}
    built = metaopt.build(spec, AbstractTaskFamily)
    assert built == FewShot(Glyphs("held_out"), ways=3, normalization="layer")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FewShot(ways=21), "`ways=21` needs as many classes, but a group has 20"),
        (lambda: FewShot(Glyphs("validation"), ways=101, within_group=False), "but there are 100. Ask for fewer"),
        (lambda: FewShot(ways=1), "`ways` must be .* at least 2"),
        (lambda: FewShot(shots=0), "`shots` must be .* at least 1"),
        (lambda: FewShot(queries=0), "`queries` must be .* at least 1"),
        (lambda: FewShot(labelled_classes("digits"), shots=50, queries=50), "50 \\+ 50 different examples of each"),
        (lambda: FewShot(labelled_classes("mnist_1d")), '`architecture="convolutional"` needs square images'),
        (lambda: FewShot(hidden=()), "`hidden` must be a tuple of at least 1 positive"),
        (lambda: Glyphs(size=3), "`size` must be .* at least 4"),
        (lambda: Glyphs(jitter=-1.0), "`jitter` must be"),
        (lambda: Glyphs(deformation=float("nan")), "`deformation` must be"),
        (lambda: LabelledClasses(Dataset("odd", rows=np.zeros(3))), "`inputs` and `labels`"),
        (lambda: LabelledClasses(labelled_classes().data, 7), "`image_side=7` does not go with rows of 64"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ({"name": "glyphs", "split": "test"}, AbstractClasses, "split: .*given 'test'"),
        ({"name": "labelled_classes", "data": "omniglot"}, AbstractClasses, "data: .*given 'omniglot'"),
        ({"name": "few_shot", "statistics": "running"}, AbstractTaskFamily, "statistics: .*given 'running'"),
        ({"name": "few_shot", "normalization": "group"}, AbstractTaskFamily, "normalization: .*given 'group'"),
    ],
)
def test_unknown_words(spec: Any, kind: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        metaopt.build(spec, kind)
