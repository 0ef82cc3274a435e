"""What people see of meta-training while it runs."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import AbstractTaskFamily, Learner, Mixture
from ..._core.arrays._trees import global_norm
from ..base import MetaGradient, MetaProblem
from ..estimators._mixed import mixture
from ._rotation import Rotation


Sink = Callable[[int, Mapping[str, float]], None]

# What each meta-step gives, before the losses of families.
_MEANS = ("loss", "gradient_norm", "update_norm", "square", "variance")
_TOTALS = ("skipped", "diverged")
_MOST_COLUMNS = 32
_WAITING = " waiting"


def seen(
    estimate: MetaGradient, before: Learner, after: Learner, skipped: Int[Array, ""], diverged: Int[Array, ""]
) -> Float[Array, " columns"]:
    """The numbers of one meta-step: the means, the totals, and the loss of each family of a mixture."""
    dtype = jnp.result_type(float)
    arrays = (eqx.filter(tree, eqx.is_inexact_array) for tree in (after, before))
    update = global_norm(jtu.tree_map(lambda new, old: new - old, *arrays))
    gradient = global_norm(estimate.grads)
    variance = jnp.nan if estimate.variance is None else estimate.variance
    numbers = [estimate.value, gradient, update, jnp.square(gradient), variance, skipped, diverged]
    columns = jnp.stack([jnp.asarray(x).astype(dtype) for x in numbers])
    return columns if estimate.families is None else jnp.concatenate([columns, estimate.families.astype(dtype)])


def family_names(family: AbstractTaskFamily | Mixture) -> list[str]:
    """The families of a mixture by their labels, or the names of their classes, numbered where several are alike."""
    if not isinstance(family, Mixture):
        return []
    kinds = [getattr(each, "label", type(each).__name__) for each in family.families]
    number = Counter(kinds)
    count: Counter[str] = Counter()
    names = []
    for kind in kinds:
        names.append(kind if number[kind] == 1 else f"{kind}.{count[kind]}")
        count[kind] += 1
    return names


def family_kinds(families: Mixture) -> tuple[list[int], list[str]]:
    """Columns for the families of a mixture: which one each has, and the names. There is one for each of up to 32
    families; of more, one for each kind."""
    names = family_names(families)
    if len(names) <= _MOST_COLUMNS:
        return list(range(len(names))), names
    kinds = [getattr(each, "kind", type(each).__name__) for each in families.families]
    names = sorted(set(kinds))
    return [names.index(kind) for kind in kinds], names


def told_families(problem: MetaProblem, rotation: Rotation | None) -> list[str]:
    """The families whose losses are told, by name."""
    return family_names(problem.family) if rotation is None else family_kinds(mixture(problem))[1]


class Metrics:
    """Rows for sinks: each is of the meta-steps since the one before, at every so many of them and at validations."""

    def __init__(self, sinks: Sequence[Sink], every: int, names: Sequence[str]):
        self.sinks, self.every = list(sinks), every
        self.names = names
        self.columns = (*_MEANS, *_TOTALS, *names)
        self.pending: list[Float[np.ndarray, " columns"]] = []
        self.failed = False
        self._begin()

    def _begin(self) -> None:
        """Begin a row: sums, and how many numbers they are of."""
        self.sums = {name: [0.0, 0] for name in self.columns if name not in _TOTALS}
        self.totals = dict.fromkeys(_TOTALS, 0.0)

    def unfinished(self) -> dict[str, Any]:
        """What a checkpoint holds, so that rows do not depend on interruptions: sums of the row that has begun, and the
        numbers of meta-steps that are not in it yet."""
        sums = {name: list(sums) for name, sums in self.sums.items() if sums[1]}
        waiting = [[x if math.isfinite(x) else None for x in map(float, row)] for row in self.pending]
        return sums | ({_WAITING: waiting} if waiting else {})

    def resume(self, known: Any) -> None:
        """Go on with what a checkpoint holds."""
        self._begin()
        if not isinstance(known, dict):
            return
        self.sums |= {name: list(sums) for name, sums in known.items() if name in self.sums}
        rows = [np.asarray([math.nan if x is None else x for x in row]) for row in known.get(_WAITING, [])]
        self.pending = [row for row in rows if row.shape == (len(self.columns),)]

    def add(self, rows: Float[np.ndarray, "steps columns"]) -> None:
        """Take the numbers of meta-steps, for `emit` to use."""
        self.pending += list(rows.astype(float))

    def emit(self, last: int, validation: float | None, *, over: bool) -> None:
        """Give rows to the sinks, of the meta-steps up to the last one.

        A sink that cannot write is left out from then on, with a warning.
        """
        waited = bool(self.pending)
        while self.pending:
            step = last - len(self.pending) + 1
            numbers = self.pending.pop(0)
            for name, number in zip(self.columns, numbers, strict=True):
                if name in _TOTALS:
                    self.totals[name] = number
                elif math.isfinite(number):
                    self.sums[name] = [self.sums[name][0] + number, self.sums[name][1] + 1]
            measured = validation if step == last else None
            if step % self.every == 0 or measured is not None or (over and step == last):
                row = self._row(measured)
                self._begin()
                self._give(step, row)
        if not waited and validation is not None:
            self._give(last, self._row(validation))

    def flush(self) -> None:
        """Have those sinks that wait with something do it now."""
        for sink in list(self.sinks):
            self._guarded(sink, getattr(sink, "flush", lambda: None))

    def _row(self, validation: float | None) -> dict[str, float]:
        means = {name: total / count if count else math.nan for name, (total, count) in self.sums.items()}
        square, noise = means.pop("square"), means.pop("variance")
        loss, gradient, update = (means.pop(name) for name in ("loss", "gradient_norm", "update_norm"))
        return {
            "loss": loss,
            "validation": math.nan if validation is None else validation,
            "signal_to_noise": (square - noise) / noise if noise > 0 else math.nan,
            "gradient_norm": gradient,
            "outer_rate": update / gradient if gradient > 0 else math.nan,
            **{name: int(total) for name, total in self.totals.items()},
            "update_norm": update,
            **{f"loss:{name}": means[name] for name in self.names},
        }

    def _give(self, step: int, row: dict[str, float]) -> None:
        for sink in list(self.sinks):
            self._guarded(sink, lambda sink=sink: sink(step, row))

    def _guarded(self, sink: Sink, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError as error:
            self.sinks.remove(sink)  # A disk that is full is no reason to lose a run of days.
            warnings.warn(
                f"A sink of metrics, `{type(sink).__name__}`, could not write and is left out from here on; training "
                f"goes on: {error}",
                stacklevel=5,
            )
        except BaseException:
            self.failed = True
            raise
