"""Classification: which data, which labels, which minibatches, which scores."""

import random
import sys
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

from metaopt import Learner, from_optax, unroll
from metaopt.tasks import ClassificationTask, Dataset, DenseNetwork, DigitsConv, DigitsMLP, Mnist1D
from metaopt.tasks._common import cross_entropy, draw_indices
from metaopt.tasks.families._digits import digits
from metaopt.tasks.families._mnist1d import _generate, mnist1d
from tests._cases import slow


FAMILIES = [DigitsMLP(), DigitsConv(split="held_out", channels=(4,)), Mnist1D(hidden=(8,), batch_size=16)]
ONE = pytest.mark.parametrize("family", [FAMILIES[0], *slow(*FAMILIES[1:])], ids=repr)
CASES = pytest.mark.parametrize("family", FAMILIES, ids=repr)


def _rows(data: Dataset) -> set[bytes]:
    return {row.tobytes() for row in data["inputs"]}


def test_splits_of_digits() -> None:
    train, held_out = digits("train"), digits("held_out")
    bunch: Any = load_digits()
    order = np.random.RandomState(0).permutation(1797)
    np.testing.assert_array_equal(np.concatenate([train["inputs"], held_out["inputs"]]) * 16, bunch.data[order[:1796]])
    np.testing.assert_array_equal(np.concatenate([train["labels"], held_out["labels"]]), bunch.target[order[:1796]])
    assert len(train["labels"]) == len(held_out["labels"]) == 898
    assert len(_rows(train)) == 898 and not _rows(train) & _rows(held_out)
    assert train["inputs"].dtype == np.float32 and train["inputs"].max() == 1


def test_splits_of_mnist1d() -> None:
    train, held_out = mnist1d("train"), mnist1d("held_out")
    assert train["inputs"].shape == (4000, 40) and held_out["inputs"].shape == (1000, 40)
    assert len(_rows(train)) == 4000 and not _rows(train) & _rows(held_out)
    assert set(train["labels"]) == set(held_out["labels"]) == set(range(10))
    # Labels belong to their signals: the nearest mean, right in 10% by chance, does better.
    means = np.stack([train["inputs"][train["labels"] == label].mean(0) for label in range(10)])
    nearest = np.argmin(np.sum((held_out["inputs"][:, None] - means) ** 2, axis=2), axis=1)
    assert np.mean(nearest == held_out["labels"]) > 0.2


def test_mnist1d_is_made_without_network_and_leaves_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("generating the data opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    random.seed(1)
    np.random.seed(2)
    wanted = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(2)
    again = _generate.__wrapped__()
    assert (random.random(), np.random.rand()) == wanted
    np.testing.assert_array_equal(again["x"].astype(np.float32), mnist1d("train")["inputs"])


@ONE
def test_measure_and_accuracy_are_those_of_sklearn(family: Any, getkey: Any) -> None:
    task = family.sample(key=getkey())
    params = task.init(key=getkey())
    logits = np.asarray(task.network.apply(params, jnp.asarray(task.data["inputs"])), np.float64)
    labels = np.asarray(task.permutation)[task.data["labels"]]
    wanted = log_loss(labels, np.exp(log_softmax(logits, axis=1)), labels=np.arange(10))
    np.testing.assert_allclose(task.measure(params, key=getkey()), wanted, rtol=1e-5)
    np.testing.assert_allclose(task.accuracy(params), accuracy_score(labels, logits.argmax(1)), rtol=1e-6)


@pytest.mark.slow
@CASES
def test_minibatches_average_to_the_measure(family: Any, getkey: Any) -> None:
    task = family.sample(key=getkey())
    params = task.init(key=getkey())
    losses = jax.jit(jax.vmap(lambda key: task.loss(params, key=key)))(jr.split(getkey(), 2000))
    error = jnp.std(losses) / np.sqrt(2000)
    assert error < 0.05
    assert abs(jnp.mean(losses) - task.measure(params, key=getkey())) < 5 * error


@CASES
def test_tasks_differ_by_the_names_of_the_classes(family: Any, getkey: Any) -> None:
    tasks = jax.vmap(lambda key: family.sample(key=key))(jr.split(getkey(), 300))
    names = np.asarray(tasks.permutation)
    np.testing.assert_array_equal(np.sort(names, axis=1), np.broadcast_to(np.arange(10), (300, 10)))
    counts = np.stack([np.bincount(column, minlength=10) for column in names.T])
    assert counts.min() > 8 and counts.max() < 60


@ONE
def test_renaming_the_classes_renames_the_outputs(family: Any, getkey: Any) -> None:
    task = family.sample(key=getkey())
    plain = ClassificationTask(task.network, task.data, jnp.arange(10, dtype=jnp.int32), task.batch_size)
    params = task.init(key=getkey())
    back = jtu.tree_map(lambda x: x[..., task.permutation], params[-1])
    renamed = (*params[:-1], back)
    key = getkey()
    np.testing.assert_allclose(task.loss(params, key=key), plain.loss(renamed, key=key), rtol=1e-5)
    np.testing.assert_allclose(task.measure(params, key=key), plain.measure(renamed, key=key), rtol=1e-5)
    np.testing.assert_allclose(task.accuracy(params), plain.accuracy(renamed), atol=1e-3)  # a tie may turn by rounding


@pytest.mark.parametrize("make", [DigitsMLP, DigitsConv, Mnist1D])
def test_labels_can_be_left_alone(make: Any, getkey: Any) -> None:
    family = make(permute_labels=False)
    one, other = (family.sample(key=getkey()) for _ in range(2))
    np.testing.assert_array_equal(one.permutation, np.arange(10))
    assert jtu.tree_structure(one) == jtu.tree_structure(make().sample(key=getkey())) == jtu.tree_structure(other)


@CASES
def test_split_decides_the_data(family: Any, getkey: Any) -> None:
    splits = {split: type(family)(split=split).sample(key=getkey()).data for split in ("train", "held_out")}
    assert splits["train"] != splits["held_out"]
    assert family.sample(key=getkey()).data == splits[family.split]


def test_training_classifies(getkey: Any) -> None:
    task = DigitsMLP(split="held_out").sample(key=getkey())
    learner = Learner(from_optax(optax.adam, learning_rate=0.01))
    params = jax.jit(lambda key: unroll(learner, task, steps=400, key=key).params)(getkey())
    assert task.accuracy(params) > 0.95


@pytest.mark.parametrize(("size", "count"), [(898, 32), (3, 5), (1, 4)])
def test_indices_are_uniform_and_in_range(size: int, count: int, getkey: Any) -> None:
    drawn = jax.vmap(lambda key: draw_indices(size, count, key=key))(jr.split(getkey(), 30_000 // count))
    assert drawn.dtype == jnp.int32 and drawn.shape[1] == count
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=size)
    assert len(counts) == size
    expected = drawn.size / size
    assert abs(np.sum((counts - expected) ** 2) / expected - (size - 1)) < 6 * np.sqrt(2 * size)


def test_cross_entropy_by_hand(getkey: Any, x64: None) -> None:
    logits, labels = 5 * jr.normal(getkey(), (6, 4)), jr.randint(getkey(), (6,), 0, 4)
    value, grad = jax.value_and_grad(cross_entropy)(logits, labels)
    table = log_softmax(np.asarray(logits), axis=1)
    np.testing.assert_allclose(value, -np.mean([table[i, y] for i, y in enumerate(np.asarray(labels))]))
    np.testing.assert_allclose(grad, (np.exp(table) - np.eye(4)[np.asarray(labels)]) / 6, atol=1e-12)


def test_cross_entropy_survives_large_logits() -> None:
    logits = jnp.asarray([[3e4, 0.0, -3e4], [-3e4, 3e4, 0.0]])
    value, grad = jax.value_and_grad(cross_entropy)(logits, jnp.asarray([0, 0]))
    np.testing.assert_allclose(value, 3e4)
    assert jnp.all(jnp.isfinite(grad))


def test_own_data_set(getkey: Any) -> None:
    inputs = np.asarray(jr.normal(getkey(), (20, 3)))
    data = Dataset("mine", inputs=inputs, labels=(inputs[:, 0] > 0).astype(np.int32))
    task = ClassificationTask(DenseNetwork((3, 2)), data, jnp.arange(2), batch_size=4)
    params = ({"w": jnp.asarray([[-1.0, 1.0], [0, 0], [0, 0]]), "b": jnp.zeros(2)},)
    assert task.accuracy(params) == 1
    with pytest.raises(ValueError, match="`inputs` and `labels`"):
        ClassificationTask(DenseNetwork((3, 2)), Dataset("odd", rows=inputs), jnp.arange(2))
    with pytest.raises(ValueError, match="`batch_size`"):
        ClassificationTask(DenseNetwork((3, 2)), data, jnp.arange(2), batch_size=0)


@pytest.mark.parametrize(
    ("module", "package", "cached", "make"),
    [
        ("sklearn.datasets", "scikit-learn", digits, DigitsMLP),
        ("sklearn.datasets", "scikit-learn", digits, DigitsConv),
        ("mnist1d.data", "mnist1d", mnist1d, Mnist1D),
    ],
)
def test_missing_package(module: str, package: str, cached: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = [cached, _generate]
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'needs `{package}`.*pip install "metaopt\[data\]"') as caught:
        make()
    assert caught.value.name == package
    monkeypatch.undo()
    assert make().sample(key=jr.key(0)).data["inputs"].size
