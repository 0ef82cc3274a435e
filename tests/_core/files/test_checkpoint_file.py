import shutil

import jax.numpy as jnp
import pytest

import metaopt
from metaopt._core.files._checkpoint_file import CheckpointFile, Watched
from metaopt._core.files._curves import Curves


TREE = {"w": jnp.arange(3.0)}
CURVES = Curves([1.0, 2.0], [(0, 3.0)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_writes_at_a_time_and_leaves_two_files(tmp_path):
    path = tmp_path / "x.metaopt"
    file = CheckpointFile(path)
    file.save(2, TREE, {"note": 1}, CURVES)
    with pytest.raises(BlockingIOError, match=r"^The checkpoint `.*x.metaopt` is in use by process \d+ on .*another"):
        CheckpointFile(path)
    file.close()
    assert names(tmp_path) == ["x.metaopt", "x.metaopt.curves"]
    again = CheckpointFile(path)
    found = again.load(lambda _: TREE)
    assert found is not None and found[1]["note"] == 1 and found[2] == CURVES
    again.release()
    other = CheckpointFile(tmp_path / "y.metaopt")
    assert other.load(lambda _: TREE) is None
    other.release()


def test_a_folder_that_is_removed_is_written_anew_with_a_warning(tmp_path):
    folder, before = tmp_path / "run", []
    file = CheckpointFile(Watched(folder / "x.metaopt", lambda: before.append(names(folder))))
    file.save(1, TREE, {}, Curves(CURVES.each[:1], CURVES.some))
    shutil.rmtree(folder)
    with pytest.warns(UserWarning, match="run` was emptied, removed or moved while a run saved its checkpoints there"):
        file.save(2, TREE, {}, CURVES)
    assert before == [["x.metaopt.lock"]] * 2
    file.release()
    again = CheckpointFile(folder / "x.metaopt")
    found = again.load(lambda _: TREE)
    assert found is not None and found[2] == CURVES
    again.release()
    assert names(folder) == ["x.metaopt", "x.metaopt.curves"]


def test_an_old_file_has_no_curves_beside_it(tmp_path):
    path = tmp_path / "x.metaopt"
    metaopt.save(path, TREE, metadata={"values": [1.0]})
    file = CheckpointFile(path)
    found = file.load(lambda _: TREE)
    assert found is not None and found[1:] == ({"values": [1.0]}, None)
    file.release()
