"""Data sets are values."""

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.tasks import ClassificationTask, Dataset, DenseNetwork


A = np.arange(6, dtype=np.float32).reshape(2, 3)


def _data(**changes: Any) -> Dataset:
    return Dataset("some", **({"inputs": A, "labels": np.asarray([0, 1])} | changes))


def test_equal_contents_are_equal() -> None:
    one = _data()
    same = Dataset("another name", labels=np.asarray([0, 1]), inputs=A.copy())
    assert one == same and hash(one) == hash(same) and len({one, same}) == 1
    assert one == copy.deepcopy(one) == pickle.loads(pickle.dumps(one))


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": A + 1},
        {"inputs": A.reshape(3, 2)},
        {"inputs": A.astype(np.float64)},
        {"inputs": A.view(np.int32)},
        {"more": A},
        {"labels": np.asarray([1, 0])},
    ],
)
def test_other_contents_are_not(changes: dict[str, Any]) -> None:
    assert _data() != _data(**changes)
    assert _data().digest != _data(**changes).digest
    assert _data() != "some"


def test_arrays_cannot_be_changed() -> None:
    mine = A.copy()
    data = _data(inputs=mine)
    mine[0] = 99
    np.testing.assert_array_equal(data["inputs"], A)
    with pytest.raises(ValueError, match="read-only"):
        data["inputs"][0] = 1


def test_mapping_and_repr() -> None:
    data = _data(wide=np.zeros((10_000, 3)))
    assert list(data) == ["inputs", "labels", "wide"] and len(data) == 3
    assert repr(data) == "Dataset('some', inputs=float32[2, 3], labels=int64[2], wide=float64[10000, 3])"
    with pytest.raises(KeyError):
        data["absent"]


def test_order_in_memory_is_no_content() -> None:
    assert _data(inputs=np.asfortranarray(A)) == _data()


def test_bad_data() -> None:
    with pytest.raises(ValueError, match="at least one array"):
        Dataset("empty")
    with pytest.raises(ValueError, match="`words` holds Python objects"):
        Dataset("bad", words=np.asarray([None, "x"], object))


def test_equal_data_share_a_compiled_program() -> None:
    traces = []

    @jax.jit
    def measure(task: Any) -> Any:
        traces.append(task.data.name)
        return task.measure(({"w": jnp.ones((3, 2)), "b": jnp.zeros(2)},), key=jr.key(0))

    network, names = DenseNetwork((3, 2)), jnp.arange(2)
    for data in (_data(), _data(), _data(inputs=A + 1)):
        measure(ClassificationTask(network, data, names))
    assert len(traces) == 2
