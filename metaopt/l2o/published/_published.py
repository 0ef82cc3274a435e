"""Weights that the authors of learned optimizers have published."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from ..._core import AbstractAlgorithm, CheckpointError
from ..._core.files._files import read_bytes, write_at_once
from ...backend import Layer, Network
from ..parts._scheduler import Scheduler
from ..rules._celo import Celo
from ..rules._celo2 import Celo2
from ..rules._celo_adam import CeloAdam
from ..rules._velo import VeLO
from ._msgpack import FormatError, Tree, pack, unpack


Flat = dict[str, np.ndarray]
# What is published has a third output, which is never read.
PUBLISHED_OUTPUTS = 3


class _Kind(NamedTuple):
    """A kind of file: which rule it is for, its content, and where the sizes of the rule are in it.

    `sizes` are an array and one of its axes, for each argument; `defaults` are arguments that differ from those of the
    rule.
    """

    rule: Callable[..., Any]
    content: Callable[[Any], Tree]
    sizes: Mapping[str, tuple[str, int]]
    defaults: Mapping[str, Any] = {}


def _dense(layer: Layer) -> Tree:
    return {"b": layer.bias, "w": layer.weight.T}


def _scheduler(scheduler: Scheduler, **readouts: Tree) -> Tree:
    # The first of three layers says nothing that is read; the rule does not have it.
    network = scheduler.network
    hidden, cell = scheduler.first_memory
    unread = jtu.tree_map(jnp.zeros_like, _dense(scheduler.reader))
    joined = jnp.concatenate([network.inputs.weight, network.recurrent], axis=1)
    return {
        "lstm_init_state": {"hidden": hidden[None], "cell": cell[None]},
        "rnn_params": {
            "linear": unread,
            "linear_1": _dense(scheduler.mixer),
            "linear_2": _dense(scheduler.reader),
            "rnn/linear": {"b": network.inputs.bias, "w": joined.T},
            **readouts,
            "step_size": _dense(scheduler.rate),
        },
    }


def _network(network: Network, pairs: int) -> Tree:
    """The layers of a network, or of a bank of them; the first is split by the kinds of features."""
    content: dict[str, Array] = {}
    for index, layer in enumerate(network.layers):
        weight, bias = jnp.swapaxes(layer.weight, -1, -2), layer.bias
        if index == len(network.layers) - 1:
            missing = PUBLISHED_OUTPUTS - bias.shape[-1]
            weight, bias = (jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) for x in (weight, bias))
        content[f"b{index}"] = bias
        if index:
            content[f"w{index}"] = weight
            continue
        kinds = [1, 1, 1, pairs, 1, pairs, 1, pairs, 1, *[pairs] * 5]
        parts = jnp.split(weight, np.cumsum(kinds)[:-1], axis=-2)
        content |= {f"w0__{kind}": part for kind, part in enumerate(parts)}
    return {"ff_mod_stack": {"~": dict(sorted(content.items()))}}


def _celo(rule: Celo) -> Tree:
    bank = jtu.tree_map(lambda leaf: leaf[None], rule.network)
    # There is one network to choose from, so that this choice changes nothing.
    hidden = rule.scheduler.rate.weight.shape[1]
    dtype = rule.scheduler.dtype
    choice = {"b": jnp.zeros(1, dtype), "w": jnp.zeros((hidden, 1), dtype)}
    return _network(bank, rule.rule.averager.pairs) | _scheduler(rule.scheduler, rnn_to_controls=choice)


def _celo_adam(rule: CeloAdam) -> Tree:
    return _scheduler(rule.scheduler)


def _celo2(rule: Celo2) -> Tree:
    return _network(rule.network, rule.averager.pairs)


def _velo(rule: VeLO) -> Tree:
    controls = _dense(rule.controls)
    return _network(rule.bank, rule.rule.averager.pairs) | _scheduler(rule.scheduler, rnn_to_controls=controls)


_HIDDEN = {"hidden_size": ("ff_mod_stack/~/b0", -1)}
_SCHEDULER = {"scheduler_size": ("rnn_params/step_size/w", 0)}
KINDS = {
    "celo": _Kind(Celo, _celo, _HIDDEN | _SCHEDULER),
    "celo_adam": _Kind(CeloAdam, _celo_adam, _SCHEDULER),
    "celo2": _Kind(Celo2, _celo2, _HIDDEN),
    "velo": _Kind(VeLO, _velo, _HIDDEN | _SCHEDULER | {"bank_size": ("ff_mod_stack/~/b0", 0)}, {"mix_scale": 100.0}),
}


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        for path, leaf in _flatten(value, f"{prefix}/{key}" if prefix else key).items():
            if path in flat:
                raise FormatError(f"`{path}` is there twice")
            flat[path] = leaf
    return flat


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a tree does that flax has written."""
    head = read_bytes(path, 1)
    return bool(head) and (0x80 <= head[0] < 0x90 or head[0] in (0xDE, 0xDF))


def read_published(path: str | os.PathLike[str]) -> tuple[str, Flat]:
    """The kind of a file of published weights, and its arrays by their paths.

    **Raises:**

    - `CheckpointError`: if the file cannot be read, is truncated or damaged, or holds something else.
    """
    try:
        tree = unpack(read_bytes(path))
        # Some are written together with the state of meta-training, as its first part.
        for part in ("params", "0"):
            if isinstance(tree, dict) and isinstance(tree.get(part), dict):
                tree = tree[part]
        flat = _flatten(tree)
    except FormatError as error:
        if error.truncated:
            raise CheckpointError(f"`{path}` is truncated: {error}. Download it again.") from error
        raise CheckpointError(f"`{path}` holds no published weights, or is damaged: {error}.") from error
    kind = _kind_of(flat)
    if kind is None:
        found = ", ".join(f"`{name}`" for name in list(flat)[:3]) or "nothing"
        raise CheckpointError(f"`{path}` holds no weights of {', '.join(f'`{k}`' for k in KINDS)}, but {found}.")
    for name, leaf in flat.items():
        if not (isinstance(leaf, np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)):
            given = leaf.dtype.name if isinstance(leaf, np.ndarray) else type(leaf).__name__
            raise CheckpointError(f"`{path}`: `{name}` is of {given}, but an array of floating point was wanted.")
        if not leaf.size or not np.all(np.isfinite(leaf)):
            raise CheckpointError(f"`{path}` is damaged: `{name}` is empty, or not finite.")
    return kind, flat


def _kind_of(flat: dict[str, Any]) -> str | None:
    networks = any(name.startswith("ff_mod_stack/") for name in flat)
    reader = flat.get("rnn_params/linear_2/w")
    if not networks:
        return None if reader is None else "celo_adam"
    if reader is None:
        return "celo2"
    # A scheduler that sees a tensor sees more than one that sees the run alone.
    return "velo" if isinstance(reader, np.ndarray) and reader.ndim == 2 and reader.shape[0] > 18 else "celo"


@overload
def load_published(path: str | os.PathLike[str], kind: Literal["celo"] = "celo", **options: Any) -> Celo: ...


@overload
def load_published(path: str | os.PathLike[str], kind: Literal["celo_adam"], **options: Any) -> CeloAdam: ...


@overload
def load_published(path: str | os.PathLike[str], kind: Literal["celo2"], **options: Any) -> Celo2: ...


@overload
def load_published(path: str | os.PathLike[str], kind: Literal["velo"], **options: Any) -> VeLO: ...


@overload
def load_published(path: str | os.PathLike[str], kind: str, **options: Any) -> Celo | CeloAdam | Celo2 | VeLO: ...


def load_published(path: str | os.PathLike[str], kind: str = "celo", **options: Any) -> Any:
    """Load weights that the authors of a learned optimizer have published.

    These are files that flax has written, often named `theta.state`. Sizes are those of the file; what a file does not
    hold, such as decays, is as it was published.

    **Arguments:**

    - `path`: the file.
    - `kind`: which learned optimizer it is: `"celo"`, `"celo_adam"`, `"celo2"` (Celo2 and Celo2-base) or `"velo"`.
    - `options`: further arguments of the rule, such as `phase=1` for Celo, or `orthogonalize=False, adam_scale=None`
        for Celo2-base.

    **Returns:**

    A [`metaopt.l2o.Celo`][], [`metaopt.l2o.CeloAdam`][], [`metaopt.l2o.Celo2`][] or [`metaopt.l2o.VeLO`][].

    **Raises:**

    - [`metaopt.CheckpointError`][]: if the file is missing, truncated or damaged, is of another kind, or an array has
        another shape than the others ask for.
    - `ValueError`: if there is no such kind.
    - `TypeError`: if the rule has no such option, or the file decides it.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(f'`{k}`' for k in KINDS)}, but {kind!r} was given.")
    wanted = KINDS[kind]
    known = set(inspect.signature(wanted.rule).parameters) - {*wanted.sizes, "hidden_layers", "key"}
    for option in options:
        if option not in known:
            raise TypeError(f"`{option}` is no option that can be chosen here; there are {', '.join(sorted(known))}.")
    found, flat = read_published(path)
    if found != kind:
        raise CheckpointError(f"`{path}` looks like weights of `{found}`, not of `{kind}`. Pass `kind={found!r}`.")

    def make() -> Any:
        return wanted.rule(**_sizes(path, wanted, flat), **{**wanted.defaults, **options})

    # Shapes first: those of a damaged file could ask for more memory than there is.
    shapes = _flatten(jax.eval_shape(wanted.content, eqx.filter_eval_shape(make)))
    _check(path, flat, {name: leaf.shape for name, leaf in shapes.items()})
    return _fill(make(), wanted.content, flat)


def _sizes(path: str | os.PathLike[str], kind: _Kind, flat: Flat) -> dict[str, int]:
    sizes = {}
    for option, (name, axis) in kind.sizes.items():
        if name not in flat or not flat[name].ndim:
            raise CheckpointError(f"`{path}` does not fit: `{name}` is missing, or a single number.")
        sizes[option] = flat[name].shape[axis]
    if "hidden_size" in sizes:
        sizes["hidden_layers"] = sum(name.startswith("ff_mod_stack/~/b") for name in flat) - 1
    return sizes


def _check(path: str | os.PathLike[str], flat: Flat, shapes: dict[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(set(shapes) - set(flat)), sorted(set(flat) - set(shapes))
    if missing or extra:
        raise CheckpointError(
            f"`{path}` does not fit. Not in the file: {missing[:5] or 'nothing'}; only in the file: "
            f"{extra[:5] or 'nothing'}."
        )
    for name, shape in shapes.items():
        if flat[name].shape != shape:
            raise CheckpointError(
                f"`{path}` does not fit: `{name}` is of shape {flat[name].shape} in the file, but {shape} was wanted."
            )


def _fill(rule: Any, content: Callable[[Any], Tree], flat: Flat) -> Any:
    """Put the numbers of a file into a rule.

    A file holds the leaves in another arrangement. That of their numbers, from 1 on, tells where each comes from; zeros
    are what the rule does not have.
    """
    leaves, structure = jtu.tree_flatten(rule)
    stops = np.cumsum([1, *[leaf.size for leaf in leaves]])
    parts = [slice(*pair) for pair in zip(stops[:-1], stops[1:], strict=True)]
    order = np.arange(stops[-1], dtype=np.int32)
    numbered = [order[part].reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)]
    numbers = np.concatenate([[0.0], *[np.ravel(leaf).astype(np.float64) for leaf in leaves]])
    for name, places in _flatten(content(jtu.tree_unflatten(structure, numbered))).items():
        numbers[np.ravel(places)] = np.ravel(flat[name]).astype(np.float64)
    new = [
        jnp.asarray(numbers[part].reshape(leaf.shape).astype(leaf.dtype))
        for leaf, part in zip(leaves, parts, strict=True)
    ]
    return jtu.tree_unflatten(structure, new)


def save_published(path: str | os.PathLike[str], rule: AbstractAlgorithm[Any, Any, Any]) -> None:
    """Write the weights of a rule as its authors do, so that their code can read them.

    Only weights are written: decays, scales, rates and the horizon are not. [`metaopt.save`][] keeps all.

    **Arguments:**

    - `path`: where to.
    - `rule`: a [`metaopt.l2o.Celo`][], [`metaopt.l2o.CeloAdam`][], [`metaopt.l2o.Celo2`][] or [`metaopt.l2o.VeLO`][].

    **Raises:**

    - `TypeError`: for any other rule.
    - `OSError`: if the file cannot be written.
    """
    content = next((kind.content for kind in KINDS.values() if kind.rule is type(rule)), None)
    if content is None:
        rules = ", ".join(f"`{kind.rule.__name__}`" for kind in KINDS.values())
        raise TypeError(f"`rule` must be one of {rules}, but a `{type(rule).__name__}` was given.")
    arrays = jtu.tree_map(lambda leaf: np.asarray(leaf, np.float32), content(rule))
    write_at_once(path, pack(arrays))
