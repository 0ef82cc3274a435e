"""Checkpoints that many processes write together."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.sharding import NamedSharding

from .._core import CheckpointError
from .._core.files._checkpoint_file import before_saving
from .._core.files._curves import Curves, CurvesFile
from .._core.files._lock import Lock
from .._core.files._save import is_key, kind_of
from ._everywhere import agree


T = TypeVar("T")
_TEMPORARY = ".orbax-checkpoint-tmp"
_REMOVED = ".removed"


@dataclasses.dataclass(frozen=True)
class CheckpointFolder:
    """A folder of checkpoints, one for each step that was saved, which all processes of a run write together.

    Orbax writes them in the background, each process what it holds, and a checkpoint counts once it is complete: what a
    process that was killed has left is ignored. They can be read on another number of devices or processes than they
    were written on. The file `curves` beside them, which the first process appends to, belongs to all of them. Needs
    the extra `checkpoint`.

    ```py
    meta_train(..., checkpoint=CheckpointFolder("runs/mine/checkpoints"), resume=True)
    ```

    **Arguments:**

    - `path`: the folder, which all processes see. Missing ones are made.
    - `keep`: how many checkpoints are kept, the latest ones.
    """

    path: str | os.PathLike[str]
    keep: int = 2

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(f"`keep` must be at least 1, but {self.keep} was given.")


class OpenFolder:
    """A checkpoint folder that is being used. All processes must call the same methods in the same order.

    **Arguments:**

    - `folder`: which one.
    - `alone`: whether no other run may use it meanwhile: the first process holds its lock.
    """

    def __init__(self, folder: CheckpointFolder, *, alone: bool = False):
        try:
            import orbax.checkpoint
        except ImportError as error:
            raise ImportError(
                "Checkpoint folders need `orbax-checkpoint`. Install it with `pip install 'metaopt[checkpoint]'`."
            ) from error
        self.path, self.keep = pathlib.Path(folder.path).absolute(), folder.keep
        self.before, self.curves = before_saving(folder.path), CurvesFile(self.path / "curves")
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"`{self.path}` is a file, but a folder for checkpoints was wanted.")
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock: Lock | None = None
        if jax.process_index() == 0:
            if alone:
                remedy = "Give this run another one, or wait until the other has ended; the lock ends with it."
                self.lock = Lock(self.path / ".lock", f"The checkpoint folder `{self.path}`", remedy)
            for left in [*self.path.glob(f"*{_TEMPORARY}*"), *self.path.glob(f"*{_REMOVED}")]:
                shutil.rmtree(left, ignore_errors=True)
        # What it logs as an error, it raises too.
        logging.getLogger("absl").addFilter(_not_from_orbax)
        # Its `CheckpointManager` would answer an error in one process by waiting for the others, which wait for this.
        self.args = orbax.checkpoint.args
        self.checkpointer = orbax.checkpoint.AsyncCheckpointer(orbax.checkpoint.CompositeCheckpointHandler())
        self.last: int | None = None

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints: what is incomplete has another name."""
        try:
            return sorted(int(place.name) for place in self.path.iterdir() if place.name.isdigit())
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The folder `{self.path}` was removed or moved while a run saved its checkpoints there. Put it back, "
                "or start anew."
            ) from error

    def save(self, step: int, tree: Any, metadata: dict[str, Any], curves: Curves) -> None:
        """Begin to save the arrays of a pytree, after what was begun before is complete, and after the curves."""
        self.wait()
        if step == self.last:
            return
        if self.last is None and agree(len(self.steps())):
            raise FileExistsError(
                f"`{self.path}` holds checkpoints of another run. Go on with `resume=True`, or take another folder."
            )
        first = jax.process_index() == 0
        if first:
            self.before()
        with self._errors():
            metadata = {**metadata, "curves": self.curves.append(curves, write=first)}
        leaves = _arrays(tree)
        about = {"leaves": {name: kind_of(leaf) for name, leaf in leaves.items()}, "metadata": metadata}
        # Orbax knows neither typed keys nor arrays without elements.
        arrays = {name: jr.key_data(x) if is_key(x) else x for name, x in leaves.items() if x.size}
        with self._errors():
            both = self.args.Composite(state=self.args.StandardSave(arrays), about=self.args.JsonSave(about))
            self.checkpointer.save(self.path / str(step), args=both)
        self.last = step

    def load(self, like: Callable[[dict[str, Any]], T]) -> tuple[T, dict[str, Any], Curves | None] | None:
        """The latest checkpoint, if there is one: the arrays in a pytree like the one that the metadata ask for,
        metadata, and curves.

        Old checkpoints have their curves in the metadata.
        """
        step = agree(max(self.steps(), default=-1))
        if step < 0:
            return None
        place, args = self.path / str(step), self.args
        try:
            about = self.checkpointer.restore(place, args=args.Composite(about=args.JsonRestore()))["about"]
            tree = like(about["metadata"])
            leaves = _arrays(tree)
            _check_fit(place, about["leaves"], leaves)
            wanted = {n: jr.key_data(x) if is_key(x) else x for n, x in leaves.items() if x.size}
            abstract = {n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=_sharding(x)) for n, x in wanted.items()}
            restore = args.Composite(state=args.StandardRestore(abstract))
            stored = self.checkpointer.restore(place, args=restore)["state"]
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"`{place}` is damaged: {_first_line(error)} Delete it to go on from the one before it."
            ) from error
        self.last = step

        def fit(path: Any, leaf: Any) -> Any:
            array = stored.get(jtu.keystr(path), leaf)
            if array is leaf:
                return leaf
            # An array that was on no mesh must not be bound to one device.
            array = array if isinstance(_sharding(leaf), NamedSharding) else jnp.asarray(np.asarray(array))
            return jr.wrap_key_data(array, impl=jr.key_impl(leaf)) if is_key(leaf) else array

        metadata, curves = about["metadata"], None
        if "curves" in metadata:
            curves = self.curves.read(metadata["curves"], cut=jax.process_index() == 0)
        return jtu.tree_map_with_path(fit, tree), metadata, curves

    def wait(self) -> None:
        """Wait until all is written; then remove what is old."""
        with self._errors():
            self.checkpointer.wait_until_finished()
        if jax.process_index() == 0:
            for step in self.steps()[: -self.keep]:
                # What is removed in part must not look complete.
                left = (self.path / str(step)).rename(self.path / f"{step}{_REMOVED}")
                shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """Wait, and let go. Not after an error: other processes that are no more would be waited for."""
        self.wait()
        self.checkpointer.close()

    def release(self) -> None:
        """Let others use the folder. What is being written is not waited for."""
        if self.lock is not None:
            self.lock.release()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell in one line that something could not be written."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            kept = self.steps()
            rest = f"the last good one is that of step {kept[-1]}" if kept else "there is none before it"
            raise OSError(
                f"A checkpoint could not be written to `{self.path}`; {rest}. {_first_line(error)}"
            ) from error


def _arrays(tree: Any) -> dict[str, Any]:
    """The arrays of a pytree by their paths."""
    return {jtu.keystr(path): leaf for path, leaf in jtu.tree_flatten_with_path(tree)[0] if eqx.is_array(leaf)}


def _sharding(leaf: Any) -> Any:
    return leaf.sharding if isinstance(leaf, jax.Array) else jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _check_fit(place: pathlib.Path, stored: dict[str, str], leaves: dict[str, Any]) -> None:
    for name in sorted({*stored, *leaves}):
        wanted = kind_of(leaves[name]) if name in leaves else "nothing"
        found = stored.get(name, "nothing")
        if found != wanted:
            raise CheckpointError(f"`{place}` does not fit: `{name}` is {found} there, but {wanted} was wanted.")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".") + "."


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in pathlib.Path(record.pathname).parts
