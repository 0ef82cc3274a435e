"""Few-shot classification."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import Activation, check_at_least, check_choice, check_sizes, cross_entropy, draw_indices
from ..data._classes import AbstractClasses
from ..data._glyphs import Glyphs
from ..networks._networks import ConvolutionalNetwork, DenseNetwork, Layers, Normalization


FewShotArchitecture = Literal["convolutional", "dense"]
Statistics = Literal["query", "support"]


class FewShotTask(AbstractLossTask):
    r"""Tell a few classes apart after seeing a few examples of each.

    The loss is the mean cross-entropy on all support examples, in every step; `measure` is that on the query examples.

    With batch normalization, `statistics` says what queries are normalized by. `"query"`: by means over all queries, as
    MAML does; then a prediction depends on the other queries, and a method learns from unlabelled ones, which is called
    transductive. `"support"`: by means over the support examples; then each query is on its own. There are no running
    averages in either case. It makes no difference to other normalizations.

    **Arguments:**

    - `network`: with one output per class.
    - `support`: the examples to learn from, by class.
    - `query`: the examples to report on, by class.
    - `statistics`: what batch normalization of queries counts.
    """

    network: ConvolutionalNetwork | DenseNetwork
    support: Float[Array, "ways shots inputs"]
    query: Float[Array, "ways queries inputs"]
    statistics: Statistics = eqx.field(static=True, default="query")

    def __check_init__(self) -> None:
        check_choice("statistics", self.statistics, Statistics)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return self.network.init(key=key)

    def loss(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        logits = self.network.apply(params, _flat(self.support))
        return cross_entropy(logits, _labels(self.support))

    def measure(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return cross_entropy(self.logits(params), self.labels)

    def logits(self, params: Layers) -> Float[Array, "n ways"]:
        """The outputs for the query examples, class after class."""
        if self.statistics == "query" or self.network.normalization != "batch":
            return self.network.apply(params, _flat(self.query))
        both, counted = jnp.concatenate([_flat(self.support), _flat(self.query)]), _labels(self.support).shape[0]
        return self.network.apply(params, both, counted=counted)[counted:]

    @property
    def labels(self) -> Int[Array, " n"]:
        """The classes of the query examples, in the order of `logits`."""
        return _labels(self.query)

    def accuracy(self, params: Layers) -> Float[Array, ""]:
        """The share of the query examples that is classified correctly."""
        return jnp.mean(jnp.argmax(self.logits(params), axis=1) == self.labels)


class FewShot(AbstractTaskFamily):
    r"""N-way, K-shot classification: draw $N$ classes, and $K$ examples of each to learn from.

    Support and query examples are different ones. The classes of a task are drawn without replacement and come in
    random order, so that an initialization cannot know which output is which class. See
    [`metaopt.tasks.FewShotTask`][] for the loss. Families with different splits of the same data share no class:

    ```python
    from metaopt.tasks import FewShot, Glyphs

    train = FewShot(Glyphs("train"), ways=5, shots=1)
    held_out = FewShot(Glyphs("held_out"), ways=5, shots=1)
    ```

    **Arguments:**

    - `classes`: what tasks are made of: [`metaopt.tasks.Glyphs`][] or [`metaopt.tasks.LabelledClasses`][].
    - `ways`: $N$.
    - `shots`: $K$.
    - `queries`: examples per class that `measure` reports on.
    - `architecture`: `"convolutional"` is for images only.
    - `hidden`: channels of each convolution, or units of each hidden layer.
    - `activation`: the nonlinearity.
    - `normalization`: of hidden layers; see [`metaopt.tasks.DenseNetwork`][].
    - `statistics`: what batch normalization of queries counts; see [`metaopt.tasks.FewShotTask`][].
    - `within_group`: whether the classes of a task are letters of one alphabet, which are harder to tell apart than
        letters of several. It makes no difference to labelled data sets.

    **Raises:**

    - `ValueError`: if there are fewer classes than ways, a class has too few examples, convolutions are wanted for what
        is no image, or a number is out of range.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{vinyals2016matching,
            title={Matching networks for one shot learning},
            author={Vinyals, Oriol and Blundell, Charles and Lillicrap, Timothy and Kavukcuoglu, Koray and
                Wierstra, Daan},
            booktitle={Advances in Neural Information Processing Systems},
            year={2016},
        }
        ```
    """

    classes: AbstractClasses = Glyphs()
    ways: int = eqx.field(static=True, default=5)
    shots: int = eqx.field(static=True, default=1)
    queries: int = eqx.field(static=True, default=15)
    architecture: FewShotArchitecture = eqx.field(static=True, default="convolutional")
    hidden: tuple[int, ...] = eqx.field(static=True, default=(32, 32, 32))
    activation: Activation = eqx.field(static=True, default="relu")
    normalization: Normalization = eqx.field(static=True, default="batch")
    statistics: Statistics = eqx.field(static=True, default="query")
    within_group: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        check_at_least("ways", self.ways, 2)
        check_at_least("shots", self.shots, 1)
        check_at_least("queries", self.queries, 1)
        check_choice("architecture", self.architecture, FewShotArchitecture)
        check_sizes("hidden", self.hidden, fewest=1)
        check_choice("activation", self.activation, Activation)
        check_choice("normalization", self.normalization, Normalization)
        check_choice("statistics", self.statistics, Statistics)
        if self.ways > self._pool:
            where = "a group has" if self.within_group else "there are"
            raise ValueError(f"`ways={self.ways}` needs as many classes, but {where} {self._pool}. Ask for fewer ways.")
        fewest = self.classes.fewest
        if fewest is not None and self.shots + self.queries > fewest:
            raise ValueError(
                f"A task needs {self.shots} + {self.queries} different examples of each class, but one class has "
                f"{fewest}. Ask for fewer `shots` or `queries`."
            )
        if self.architecture == "convolutional" and self.classes.side is None:
            raise ValueError('`architecture="convolutional"` needs square images; `"dense"` would go with any rows.')

    def sample(self, *, key: PRNGKeyArray) -> FewShotTask:
        choice_key, group_key, draw_key = jr.split(key, 3)
        numbers = _distinct(self._pool, self.ways, key=choice_key)
        if self.within_group:
            group = draw_indices(self.classes.count // self.classes.group, 1, key=group_key)
            numbers = numbers + self.classes.group * group
        drawn = self.classes.draw(numbers, self.shots + self.queries, key=draw_key)
        return FewShotTask(self.network(self.ways), drawn[:, : self.shots], drawn[:, self.shots :], self.statistics)

    @property
    def _pool(self) -> int:
        return self.classes.group if self.within_group else self.classes.count

    def network(self, outputs: int) -> ConvolutionalNetwork | DenseNetwork:
        """The network of the tasks, with another number of outputs."""
        if self.classes.side is not None and self.architecture == "convolutional":
            return ConvolutionalNetwork(self.classes.side, self.hidden, outputs, self.activation, self.normalization)
        return DenseNetwork((self.classes.inputs, *self.hidden, outputs), self.activation, self.normalization)


def _distinct(size: int, count: int, *, key: PRNGKeyArray) -> Int[Array, "{count}"]:
    """Draw different numbers below `size`, in random order."""
    # The first of the numbers that random bits rank. Ties are as good as none: they are broken by the number.
    return jax.lax.top_k(jr.uniform(key, (size,)), count)[1].astype(jnp.int32)


def _flat(examples: Float[Array, "ways n inputs"]) -> Float[Array, "ways*n inputs"]:
    return examples.reshape(-1, examples.shape[-1])


def _labels(examples: Float[Array, "ways n inputs"]) -> Int[Array, " ways*n"]:
    return jnp.repeat(jnp.arange(examples.shape[0], dtype=jnp.int32), examples.shape[1])
