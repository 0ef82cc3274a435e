"""Automatic task generation: families drawn from a distribution over what makes them."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ..._core import AbstractTask, AbstractTaskFamily, Mixture
from .._common import Split, check_above, check_at_least
from ._bucket import Bucket, shape_of
from ._generated import CRITERIA, DATA, Generated


@dataclasses.dataclass(frozen=True)
class TaskDistribution:
    r"""A distribution over families of supervised tasks: how probable each choice is.

    What is drawn first decides what may follow: the data fit the architecture, and the criterion the data, with the
    probabilities below among those that do. [`metaopt.tasks.generate`][] draws from it;
    [`metaopt.tasks.TaskDistribution.fit`][] makes it like tasks that you have.

    - `architecture`, `data`, `criterion`, `activation`, `width`, `depth`, `batch_size`: probabilities of choices; they
        are divided by their sum.
    - `condition`, `start_scale`, `split`: as of [`metaopt.tasks.Generated`][], for all.
    """

    architecture: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"dense": 4.0, "convolutional": 1.0, "recurrent": 1.0, "attention": 2.0}
    )
    data: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"digits": 2.0, "digit_images": 1.0, "mnist_1d": 1.0, "waves": 2.0, "text": 2.0}
    )
    criterion: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"cross_entropy": 2.0, "squared_error": 2.0, "huber": 1.0}
    )
    activation: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"relu": 2.0, "tanh": 1.0, "gelu": 1.0, "silu": 1.0}
    )
    width: Mapping[int, float] = dataclasses.field(default_factory=lambda: dict.fromkeys((8, 16, 32, 64), 1.0))
    depth: Mapping[int, float] = dataclasses.field(default_factory=lambda: {1: 2.0, 2: 2.0, 3: 1.0})
    batch_size: Mapping[int, float] = dataclasses.field(default_factory=lambda: dict.fromkeys((8, 16, 32, 64), 1.0))
    condition: float = 10.0
    start_scale: float = 2.0
    split: Split = "train"

    def __post_init__(self) -> None:
        for name in _CHOICES:
            table = getattr(self, name)
            if not table or not all(0 <= p < math.inf for p in table.values()) or not sum(table.values()) > 0:
                raise ValueError(f"`{name}` must hold probabilities that do not sum to zero, but {table} was given.")

    def joint(self) -> Any:
        """The distribution as a `tensorflow_probability` `JointDistributionNamed` over indices of choices."""
        from tensorflow_probability.substrates import jax as tfp

        tfd = tfp.distributions

        def free(name: str) -> Any:
            return tfd.Categorical(probs=_probabilities(getattr(self, name)))

        def following(name: str, first: str, fitting: Mapping[str, tuple[str, ...]]) -> Any:
            given = list(getattr(self, first))
            table = jnp.stack(
                [
                    _probabilities({k: p if k in fitting[g] else 0.0 for k, p in getattr(self, name).items()})
                    for g in given
                ]
            )
            return lambda index: tfd.Categorical(probs=table[index])

        data, criterion = following("data", "architecture", DATA), following("criterion", "data", CRITERIA)
        return tfd.JointDistributionNamed(
            {
                "architecture": free("architecture"),
                "data": lambda architecture: data(architecture),
                "criterion": lambda data: criterion(data),
                **{name: free(name) for name in ("activation", "width", "depth", "batch_size")},
            }
        )

    def fit(
        self,
        examples: Sequence[AbstractTask[Any, Any] | AbstractTaskFamily],
        *,
        strength: float = 4.0,
    ) -> "TaskDistribution":
        r"""The posterior given a few tasks of your own: the distribution of tasks like them.

        Each table of probabilities $p$ is the mean of a Dirichlet distribution with weights $\alpha p$; with counts $n$
        of what the examples have, it becomes $(\alpha p + n) / (\alpha + \sum n)$. An example of a
        [`metaopt.tasks.Generated`][] family tells all. Of any other task its parameters are looked at: kernels with
        four axes mean convolutions; the median size of hidden axes is the width, to the nearest choice; matrices are
        counted for the depth. Where an example says nothing, probabilities stay as they are.

        **Arguments:**

        - `examples`: tasks, or families of which one is drawn.
        - `strength`: $\alpha$, how many examples this distribution is worth.

        **Raises:**

        - `ValueError`: if there is no example, or `strength` is not positive.
        """
        check_above("strength", strength, 0)
        if not examples:
            raise ValueError("`examples` is empty; give a few tasks or families to be fitted to.")
        seen: dict[str, Counter[Any]] = {name: Counter() for name in _CHOICES}
        for example in examples:
            for name, choice in _describe(example, self).items():
                seen[name][choice] += 1
        tables = {}
        for name, counts in seen.items():
            prior = getattr(self, name)
            total = sum(prior.values())
            known = dict.fromkeys([*prior, *counts], 0.0) | {k: strength * p / total for k, p in prior.items()}
            tables[name] = {k: known[k] + counts[k] for k in known}
        return dataclasses.replace(self, **tables)


_CHOICES = ("architecture", "data", "criterion", "activation", "width", "depth", "batch_size")


def _probabilities(table: Mapping[Any, float]) -> Float[Array, " choices"]:
    weights = np.asarray(list(table.values()), np.float32)
    return jnp.asarray(weights / max(float(weights.sum()), 1e-30))


def _describe(example: AbstractTask[Any, Any] | AbstractTaskFamily, known: TaskDistribution) -> dict[str, Any]:
    """What can be told of an example."""
    if isinstance(example, Generated):
        return {name: getattr(example, name) for name in _CHOICES}
    task = example.sample(key=jr.key(0)) if isinstance(example, AbstractTaskFamily) else example
    params = eqx.filter_eval_shape(lambda key: task.init(key=key), jr.key(0))
    shapes = [leaf.shape for leaf in jtu.tree_leaves(params) if isinstance(leaf, jax.ShapeDtypeStruct)]
    matrices = [shape for shape in shapes if len(shape) >= 2]
    found: dict[str, Any] = {}
    if matrices:
        kernels = any(len(shape) >= 4 for shape in matrices)
        found["architecture"] = "convolutional" if kernels else "dense"
        # The last axis of all but the last matrix: its units.
        hidden = [shape[-1] for shape in matrices[:-1]]
        if hidden:
            found["width"] = min(known.width, key=lambda w: abs(math.log(w / float(np.median(hidden)))))
            found["depth"] = min(known.depth, key=lambda d: abs(d - len(hidden)))
    batch_size = getattr(task, "batch_size", None)
    if isinstance(batch_size, int):
        found["batch_size"] = min(known.batch_size, key=lambda b: abs(math.log(b / batch_size)))
    return found


def generate(
    count: int = 16, *, distribution: TaskDistribution | None = None, seed: int = 0, buckets: bool = False
) -> Mixture:
    """Draw families of supervised tasks, to meta-train on all of them.

    Draws that are equal become one family with a larger weight.

    **Arguments:**

    - `count`: how many to draw.
    - `distribution`: what to draw from.
    - `seed`: of the draws.
    - `buckets`: whether families whose parameters have the same shapes are put together, so that one compiled program
        serves all of them. A thousand draws are about 700 families, and 170 buckets.

    **Returns:**

    A [`metaopt.tasks.Mixture`][] of [`metaopt.tasks.Generated`][] families, or of [`metaopt.tasks.Bucket`][]s.

    **Raises:**

    - `ValueError`: if `count` is below 1.
    - `ImportError`: if the data needs a package that is missing.
    """
    check_at_least("count", count, 1)
    known = TaskDistribution() if distribution is None else distribution
    drawn = known.joint().sample(count, seed=jr.key(seed))
    choices = {name: [list(getattr(known, name))[int(i)] for i in np.asarray(drawn[name])] for name in _CHOICES}
    same = {"condition": known.condition, "start_scale": known.start_scale, "split": known.split}
    families = [_canonical(**{name: choices[name][i] for name in _CHOICES}, **same) for i in range(count)]
    weights = Counter(families)
    if not buckets:
        return Mixture(tuple(weights), tuple(float(w) for w in weights.values()))
    groups: dict[Any, Counter[Generated]] = {}
    for family, weight in weights.items():
        groups.setdefault(shape_of(family), Counter())[family] = weight
    return Mixture(
        tuple(Bucket(tuple(group), tuple(float(w) for w in group.values())) for group in groups.values()),
        tuple(float(group.total()) for group in groups.values()),
    )


def _canonical(**options: Any) -> Generated:
    """A family without the options that mean nothing for it, so that equal ones are found."""
    if options["architecture"] in ("recurrent", "attention"):
        options["activation"] = "relu"
    if options["architecture"] == "recurrent":
        options["depth"] = 1
    if options["architecture"] == "attention":
        options["width"] += options["width"] % 2
    if options["architecture"] == "convolutional":
        options["width"] = min(options["width"], 16)
    return Generated(**options)
