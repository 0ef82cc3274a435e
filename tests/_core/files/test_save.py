"""Checkpoints: what is saved comes back, and a file is whole or refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import metaopt
from metaopt._core import load, read_header, save
from tests._cases import fast


DTYPES = ["bool", "int8", "int32", "uint8", "uint32", "float16", "bfloat16", "float8_e4m3fn", "float32", "complex64"]
SHAPES = [(), (0,), (3,), (2, 3), (2, 0, 1), (2, 3, 4, 2)]
ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def _array(shape: tuple[int, ...], dtype: str, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 3).astype(dtype)


def _plain(tree: Any) -> Any:
    """Random keys as numbers, so that trees can be compared."""
    is_key = lambda x: isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jtu.tree_map(lambda x: (str(jr.key_impl(x)), jr.key_data(x)) if is_key(x) else x, tree)


def _same(a: Any, b: Any) -> None:
    assert eqx.tree_equal(_plain(a), _plain(b), typematch=True)


def _blank(tree: Any) -> Any:
    """The same structure with other numbers."""

    def other(x: Any) -> Any:
        if not eqx.is_array_like(x):
            return x
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(jnp.zeros_like(jr.key_data(x)), impl=jr.key_impl(x))
        return jnp.zeros_like(x) if isinstance(x, jax.Array) else np.zeros_like(x) if eqx.is_array(x) else type(x)()

    return jtu.tree_map(other, tree)


def _round_trip(path: Path, tree: Any) -> None:
    save(path, tree)
    _same(load(path, _blank(tree)), tree)


leaves = st.one_of(
    st.builds(_array, st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.integers(0, 9)),
    st.builds(lambda seed, impl: jr.key(seed, impl=impl), st.integers(0, 9), st.sampled_from(["threefry2x32", "rbg"])),
    st.builds(lambda seed: np.random.default_rng(seed).normal(size=2), st.integers(0, 9)),
    st.floats(),
    st.integers(-(2**62), 2**62),
    st.booleans(),
    st.complex_numbers(),
    st.none(),
    st.text(max_size=3),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=6,
)


@ANY_FOLDER
@given(tree=trees)
def test_any_tree_comes_back(tree: Any, tmp_path: Path) -> None:
    save(tmp_path / "tree", tree)
    loaded = load(tmp_path / "tree", _blank(tree))
    assert jtu.tree_structure(loaded) == jtu.tree_structure(tree)
    for a, b in zip(jtu.tree_leaves(_plain(loaded)), jtu.tree_leaves(_plain(tree)), strict=True):
        assert type(a) is type(b)
        if eqx.is_array_like(a):
            assert np.asarray(a).dtype == np.asarray(b).dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        else:
            assert a == b


@pytest.mark.parametrize("dtype", fast(DTYPES, "bool", "uint8", "bfloat16", "float8_e4m3fn", "complex64"))
def test_every_dtype_comes_back(dtype: str, tmp_path: Path) -> None:
    _round_trip(tmp_path / "tree", [_array(shape, dtype) for shape in SHAPES])


@pytest.mark.usefixtures("x64")
def test_double_precision_comes_back(tmp_path: Path) -> None:
    tree = {"f": jnp.asarray([0.1, jnp.nan, -0.0, jnp.inf]), "c": jnp.asarray(0.1j), "n": jnp.asarray(2**40)}
    assert tree["f"].dtype == jnp.float64
    save(tmp_path / "tree", tree)
    loaded = load(tmp_path / "tree", _blank(tree))
    for name in tree:
        assert loaded[name].dtype == tree[name].dtype
        np.testing.assert_array_equal(loaded[name], tree[name])
    assert jnp.signbit(loaded["f"][2])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_random_keys_come_back(impl: str, tmp_path: Path) -> None:
    key = jr.key(7, impl=impl)
    _round_trip(tmp_path / "tree", {"one": key, "many": jr.split(key, 3)})
    assert read_header(tmp_path / "tree")["leaves"][0]["key"] == impl


def test_numpy_arrays_stay_numpy(tmp_path: Path) -> None:
    tree = {"a": np.arange(3.0), "b": np.float32(2.0), "c": np.arange(4).astype(">i4"), "d": np.ones((2, 3)).T[::2]}
    save(tmp_path / "tree", tree)
    loaded = load(tmp_path / "tree", tree)
    for name, array in tree.items():
        assert type(loaded[name]) is type(array)
        np.testing.assert_array_equal(loaded[name], array)
    loaded["a"][0] = 9.0  # not a view of read-only bytes


def test_learners_come_back_with_all_that_is_not_an_array(tmp_path: Path, getkey: Callable[[], jax.Array]) -> None:
    algorithm = metaopt.ClipByGlobalNorm(metaopt.from_optax(optax.adam, learning_rate=0.1), 2.0)
    learner = metaopt.Learner(algorithm, eqx.nn.MLP(2, 1, 3, 1, key=getkey()))
    _round_trip(tmp_path / "learner", (learner, algorithm.init(learner.initial)))


def test_sharded_arrays_come_back(tmp_path: Path) -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    array = jax.device_put(jnp.arange(16.0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x")))
    _round_trip(tmp_path / "tree", {"a": array})


def test_header(tmp_path: Path) -> None:
    metadata = {"note": "Grüße", "steps": 3, "nested": {"x": [1.5, None]}}
    save(tmp_path / "tree", {"a": jnp.zeros((2, 0)), "b": 1.0, "c": "text"}, metadata=metadata, spec={"name": "adam"})
    header = read_header(tmp_path / "tree")
    assert header["metadata"] == metadata | {"spec": {"name": "adam"}}
    assert header["leaves"] == [
        {"path": "['a']", "shape": [2, 0], "dtype": "float32", "key": None},
        {"path": "['b']", "shape": [], "dtype": "float64", "key": None},
    ]


def test_folders_are_made_and_files_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "tree"
    save(str(path), jnp.zeros(3))
    save(path, jnp.ones(2))
    np.testing.assert_array_equal(load(str(path), jnp.zeros(2)), [1.0, 1.0])
    assert [file.name for file in path.parent.iterdir()] == ["tree"]


TREE = {"w": jnp.arange(3.0), "key": jr.key(3), "n": 4}


@ANY_FOLDER
@given(data=st.data())
def test_a_truncated_file_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "tree"
    save(path, TREE)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    for read in (lambda: load(path, TREE), lambda: read_header(path)):
        with pytest.raises(metaopt.CheckpointError, match="truncated or damaged|not a metaopt checkpoint"):
            read()


@ANY_FOLDER
@given(data=st.data())
def test_a_damaged_file_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "tree"
    save(path, TREE)
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with pytest.raises(metaopt.CheckpointError, match="truncated or damaged|not a metaopt checkpoint"):
        load(path, TREE)


@ANY_FOLDER
@given(content=st.binary(max_size=64))
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tree"
    path.write_bytes(content)
    with pytest.raises(metaopt.CheckpointError, match="truncated or damaged|not a metaopt checkpoint"):
        load(path, TREE)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(metaopt.CheckpointError, match="cannot be read"):
            load(path, TREE)


OTHERS: dict[str, tuple[Any, str]] = {
    "shape": (TREE | {"w": jnp.arange(4.0)}, r"`\['w'\]` is float32\[3\] in the file, but float32\[4\] was wanted"),
    "dtype": (TREE | {"w": jnp.arange(3)}, r"`\['w'\]` is float32\[3\] in the file, but int32\[3\] was wanted"),
    "missing": ({"w": TREE["w"], "n": 0}, r"only in the file: \[.*key"),
    "extra": (TREE | {"b": jnp.zeros(1)}, r"Not in the file: \[.*b"),
    "key for numbers": (TREE | {"w": jr.key(0)}, "but a random key .threefry2x32. of data"),
    "numbers for key": (TREE | {"key": jnp.zeros(2, jnp.uint32)}, "is a random key .threefry2x32. of data"),
    "other kind of key": (TREE | {"key": jr.key(0, impl="rbg")}, "but a random key .rbg. of data"),
    "more keys": (TREE | {"key": jr.split(jr.key(0))}, r"uint32\[2, 2\] was wanted"),
    "number type": (TREE | {"n": 0.0}, r"`\['n'\]` is int64\[\] in the file, but float64\[\] was wanted"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    like, message = OTHERS[name]
    save(tmp_path / "tree", TREE)
    with pytest.raises(metaopt.CheckpointError, match=message):
        load(tmp_path / "tree", like)


NOT_SAVED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "text": ({"x": np.asarray(["a"])}, {}, r"`\['x'\]` has dtype <U1"),
    "objects": (np.asarray([None]), {}, "has dtype object"),
    "huge integers": (10**30, {}, "has dtype object"),
    "metadata": (1.0, {"x": jnp.ones(2)}, "not JSON serializable"),
}


@pytest.mark.parametrize("name", NOT_SAVED)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    tree, metadata, message = NOT_SAVED[name]
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "tree", tree, metadata=metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["write", "fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_file(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tree"
    save(path, jnp.zeros(3))

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("disk full")

    name = {"write": "fdopen", "fsync": "fsync", "replace": "replace"}[stage]
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(OSError, match="disk full"):
            save(path, jnp.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["tree"]
    np.testing.assert_array_equal(load(path, jnp.zeros(3)), [0.0, 0.0, 0.0])


def test_an_interruption_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tree"
    save(path, jnp.zeros(3))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(path, jnp.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["tree"]
    np.testing.assert_array_equal(load(path, jnp.zeros(3)), [0.0, 0.0, 0.0])


def test_a_folder_that_cannot_be_is_an_os_error(tmp_path: Path) -> None:
    save(tmp_path / "file", jnp.zeros(1))
    with pytest.raises(OSError):
        save(tmp_path / "file" / "tree", jnp.ones(1))
    np.testing.assert_array_equal(load(tmp_path / "file", jnp.ones(1)), [0.0])


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_an_unwritable_folder_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    save(folder / "tree", jnp.zeros(3))
    folder.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            save(folder / "tree", jnp.ones(3))
    finally:
        folder.chmod(0o700)
    np.testing.assert_array_equal(load(folder / "tree", jnp.ones(3)), [0.0, 0.0, 0.0])
