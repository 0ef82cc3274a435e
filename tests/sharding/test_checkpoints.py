"""Folders of checkpoints, as one process writes them. What many do is in `tests/runs/test_launch.py`."""

import logging
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import metaopt
from metaopt._core.files._curves import Curves
from metaopt.sharding import CheckpointFolder, make_mesh
from metaopt.sharding._checkpoints import OpenFolder


pytest.importorskip("orbax.checkpoint")


CURVES = Curves([0.5, float("inf")], [(0, 1.5)])


@pytest.fixture
def open_(tmp_path: Path) -> Any:
    """Open the folder; it is closed after the test."""
    opened: list[OpenFolder] = []

    def open_folder(**options: Any) -> OpenFolder:
        opened.append(OpenFolder(CheckpointFolder(tmp_path / "checkpoints", **options)))
        return opened[-1]

    yield open_folder
    for folder in opened:
        folder.close()


def _tree(number: float = 1.0) -> Any:
    layer = eqx.nn.Linear(2, 3, key=jr.key(0))
    arrays = {"a/b": jnp.full((2, 3), number), "none": None, "empty": jnp.zeros((0, 2)), "step": jnp.int32(3)}
    return layer, arrays, [jr.key(7), jr.split(jr.key(1, impl="rbg"), 2)], "text", 0.5


def _assert_equal(found: Any, wanted: Any) -> None:
    assert jtu.tree_structure(found) == jtu.tree_structure(wanted)
    for x, y in zip(jtu.tree_leaves(found), jtu.tree_leaves(wanted), strict=True):
        if eqx.is_array(y):
            assert x.dtype == y.dtype
            x, y = (jr.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in (x, y))
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y


def _blank(tree: Any) -> Any:
    def blank(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(jnp.zeros_like(jr.key_data(leaf)), impl=jr.key_impl(leaf))
        return jnp.zeros_like(leaf)

    return jtu.tree_map(blank, tree)


def test_any_tree_comes_back(open_: Any) -> None:
    folder = open_()
    assert folder.load(lambda _: _tree()) is None
    folder.save(3, _tree(), {"values": [0.1, float("inf")]}, CURVES)
    folder.wait()
    found, metadata, curves = open_().load(lambda _: _blank(_tree()))
    _assert_equal(found, _tree())
    assert metadata.pop("curves")["records"] == 3
    assert metadata == {"values": [0.1, float("inf")]} and curves == CURVES
    # It can be combined with what lies on a mesh.
    everywhere = NamedSharding(make_mesh(tasks=8), PartitionSpec())
    assert float(jnp.sum(found[1]["a/b"] + jax.device_put(jnp.ones((2, 3)), everywhere))) == 12.0


def test_the_latest_ones_are_kept(open_: Any) -> None:
    folder = open_(keep=2)
    for step in range(4):
        folder.save(step, _tree(float(step)), {"step": step}, CURVES)
    folder.save(3, _tree(9.0), {}, CURVES)  # is there already
    folder.wait()
    assert sorted(p.name for p in folder.path.iterdir()) == ["2", "3", "curves"]
    found, metadata, _ = folder.load(lambda _: _tree())
    assert metadata["step"] == 3 and float(found[1]["a/b"][0, 0]) == 3.0


def test_curves_are_those_of_the_checkpoint_that_is_read(open_: Any) -> None:
    """A checkpoint may be gone, and the one before it counts again; its curves are the first part of the file."""
    folder, grown = open_(), Curves([0.5, float("inf"), 2.0], [(0, 1.5), (3, 0.1)])
    folder.save(2, _tree(), {}, CURVES)
    folder.save(3, _tree(), {}, grown)
    folder.wait()
    assert open_().load(lambda _: _tree())[2] == grown
    shutil.rmtree(folder.path / "3")
    again = open_()
    assert again.load(lambda _: _tree())[2] == CURVES
    again.save(3, _tree(), {}, grown)
    again.wait()
    assert open_().load(lambda _: _tree())[2] == grown
    (folder.path / "curves").unlink()
    with pytest.raises(metaopt.CheckpointError, match="checkpoints/curves`, the curves of this run, cannot be read"):
        open_().load(lambda _: _tree())


def test_a_folder_that_is_removed_is_one_error(open_: Any, tmp_path: Path) -> None:
    folder = open_()
    shutil.rmtree(folder.path)
    with pytest.raises(FileNotFoundError, match="checkpoints` was removed or moved while a run saved its checkpoints"):
        folder.save(1, _tree(), {}, CURVES)
    folder.path.mkdir()


def test_half_a_checkpoint_is_ignored(open_: Any) -> None:
    folder = open_()
    for step in (1, 2):
        folder.save(step, _tree(float(step)), {}, CURVES)
    folder.wait()
    # What a process that was killed has left.
    (folder.path / "2").rename(folder.path / "2.orbax-checkpoint-tmp")
    again = open_()
    found, *_ = again.load(lambda _: _tree())
    assert float(found[1]["a/b"][0, 0]) == 1.0
    again.save(2, _tree(5.0), {}, CURVES)
    again.wait()
    assert float(again.load(lambda _: _tree())[0][1]["a/b"][0, 0]) == 5.0
    assert sorted(p.name for p in again.path.iterdir()) == ["1", "2", "curves"]


def test_checkpoints_of_another_run_are_left_alone(open_: Any) -> None:
    folder = open_()
    folder.save(7, _tree(1.0), {}, CURVES)
    folder.wait()
    again = open_()
    with pytest.raises(FileExistsError, match="holds checkpoints of another run. Go on with `resume=True`"):
        again.save(0, _tree(2.0), {}, CURVES)
    assert float(again.load(lambda _: _tree())[0][1]["a/b"][0, 0]) == 1.0


def test_another_number_of_devices_can_read_it(open_: Any) -> None:
    def place(devices: int) -> Any:
        return jax.device_put(jnp.arange(8.0), NamedSharding(make_mesh(tasks=devices), PartitionSpec("tasks")))

    folder = open_()
    folder.save(0, place(8), {}, CURVES)
    folder.wait()
    found, *_ = folder.load(lambda _: place(2))
    assert found.sharding.is_equivalent_to(place(2).sharding, 1)
    np.testing.assert_array_equal(found, np.arange(8.0))


def test_what_does_not_fit_is_named(open_: Any) -> None:
    folder = open_()
    folder.save(0, {"a": jnp.zeros(2), "k": jr.key(0)}, {}, CURVES)
    folder.wait()
    for like, words in [
        ({"a": jnp.zeros(3), "k": jr.key(0)}, r"`\['a'\]` is float32\[2\] there, but float32\[3\] was wanted"),
        ({"a": jnp.zeros(2)}, r"`\['k'\]` is a random key .* there, but nothing was wanted"),
        ({"a": jnp.zeros(2), "k": jr.key(0, impl="rbg")}, r"`\['k'\]` is a random key \(threefry2x32\) .*\(rbg\)"),
        ({"a": jnp.zeros(2), "k": jr.key(0), "z": jnp.ones(1)}, r"`\['z'\]` is nothing there, but float32\[1\] was"),
    ]:
        with pytest.raises(metaopt.CheckpointError, match=f"checkpoints/0` does not fit: {words}"):
            folder.load(lambda _, like=like: like)


def test_a_damaged_one_says_so(open_: Any) -> None:
    folder = open_()
    folder.save(0, _tree(), {}, CURVES)
    folder.wait()
    for file in (folder.path / "0" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(metaopt.CheckpointError, match="checkpoints/0` is damaged: .* Delete it"):
        open_().load(lambda _: _tree())


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
def test_a_full_disk_is_one_error_and_the_last_good_one_stays(open_: Any, caplog: Any) -> None:
    folder = open_()
    folder.save(1, _tree(), {}, CURVES)
    folder.wait()
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="could not be written to .*; the last good one is that of step 1.*too large"):
            folder.save(2, {"big": jr.normal(jr.key(0), (10_000,))}, {}, CURVES)
            folder.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    _assert_equal(open_().load(lambda _: _blank(_tree()))[0], _tree())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file, but a folder for checkpoints was wanted"):
        OpenFolder(CheckpointFolder(blocker))
    with pytest.raises(NotADirectoryError, match="file"):
        OpenFolder(CheckpointFolder(blocker / "checkpoints"))
    with pytest.raises(ValueError, match="`keep` must be at least 1, but 0 was given"):
        CheckpointFolder(tmp_path, keep=0)


def test_without_orbax_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r"need `orbax-checkpoint`. Install it with `pip install 'metaopt"):
        OpenFolder(CheckpointFolder(tmp_path))
