"""Training an unfolded algorithm layer by layer."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core._progress import progress_bar
from .._horizons import ConstantHorizon
from .._objectives import FinalLoss
from ..base import MetaProblem
from ..estimators._partition import only
from ..estimators._unrolled import Unrolled
from ._train import meta_train


U = TypeVar("U", bound=AbstractAlgorithm[Any, Any, Any])


def train_unfolded(
    algorithm: U,
    family: AbstractTaskFamily,
    *,
    outer: AbstractAlgorithm[Any, Any, Any],
    steps: int | Sequence[int],
    tasks: int = 64,
    key: PRNGKeyArray,
    progress: bool = True,
) -> U:
    r"""Train an unfolded algorithm progressively: its first layer, then its first two, and so on.

    $$\min_{\phi_1, \dots, \phi_k} \mathbb{E}_\tau \, \mathrm{measure}_\tau(x_k), \qquad k = 1, \dots, K$$

    where each new layer starts as a copy of the one before it. An unfolded network is an inner loop, and one stage of
    this is [`metaopt.meta.meta_train`][] with a horizon of $k$ steps and the last `measure` as its objective: for
    [`metaopt.tasks.SparseCoding`][] with the signal `"residual"`, the squared error.

    **Arguments:**

    - `algorithm`: where to start, a [`metaopt.l2o.AbstractUnfolded`][].
    - `family`: the tasks, fresh ones in each step.
    - `outer`: the algorithm that trains, from a fresh state in each stage. It is told how many steps a stage has: for
        a rate that falls within each, wrap it in `metaopt.schedules.Cosine`.
    - `steps`: the steps of a stage; one number for all of them, or one for each layer.
    - `tasks`: how many tasks a step averages over.
    - `key`: draws the tasks.
    - `progress`: whether to show a progress bar.

    **Returns:**

    The trained algorithm.

    **Raises:**

    - `TypeError`: if the algorithm has no layers.
    - `ValueError`: if a number is below 1, or there are not as many `steps` as layers.
    """
    # Imported here to keep the registry light, which imports this room.
    from ...l2o import AbstractUnfolded

    if not isinstance(algorithm, AbstractUnfolded):
        raise TypeError(
            f"`train_unfolded` trains algorithms with layers, but a `{type(algorithm).__name__}` was given. Give it a "
            "`metaopt.l2o.LISTA`, say, or train yours with `metaopt.meta.meta_train`."
        )
    depth = algorithm.depth
    counts = [steps] * depth if isinstance(steps, int) else list(steps)
    if len(counts) != depth:
        raise ValueError(
            f"`steps` must be one number, or one for each of {depth} layers, but {len(counts)} were given."
        )
    with progress_bar(sum(counts), done=0, unit="step", enabled=progress and jax.process_index() == 0) as bar:
        for stage, count in enumerate(counts, start=1):
            problem = MetaProblem(family, FinalLoss(queries=True), ConstantHorizon(stage), tasks=tasks, trainable=_mask)
            result = meta_train(
                Learner(_first(algorithm, stage)),
                problem,
                estimator=Unrolled(),
                outer=outer,
                steps=count,
                key=jr.fold_in(key, stage),
                progress=False,
            )
            algorithm = cast(U, _extended(result.learner.algorithm, depth))
            bar.set_postfix({"layers": stage, "value": f"{result.history.values[-1]:.4g}"}, refresh=False)
            bar.update(count)
    return algorithm


def _trained(algorithm: Any) -> list[PyTree]:
    # `eqx.tree_at`, behind `only`, cannot pick a `None`.
    return [algorithm.layers] if algorithm.shared is None else [algorithm.layers, algorithm.shared]


def _mask(learner: Learner) -> PyTree[bool]:
    """Which leaves are trained. A function that is always the same, so that seeds share compiled programs."""
    return only(lambda learner: _trained(learner.algorithm))(learner)


def _first(algorithm: Any, count: int) -> Any:
    """The first layers. Those not reached yet would cost the outer algorithm as much as those that are."""
    return eqx.tree_at(lambda a: a.layers, algorithm, jtu.tree_map(lambda x: x[:count], algorithm.layers))


def _extended(algorithm: Any, depth: int) -> Any:
    """More layers, as copies of the last one."""

    def one(x: Array) -> Array:
        return jnp.concatenate([x, jnp.repeat(x[-1:], depth - x.shape[0], axis=0)])

    return eqx.tree_at(lambda a: a.layers, algorithm, jtu.tree_map(one, algorithm.layers))
