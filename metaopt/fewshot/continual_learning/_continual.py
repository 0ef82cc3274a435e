"""Meta-training on families that come one after the other."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner, Mixture
from ...meta import AbstractEstimator, MetaProblem, MetaResult, Mixed, meta_train, validate
from ...meta.training._stores import Place, locked_place, place_inside
from ._ewc import EWC, importance
from ._reservoir import Reservoir


class ContinualResult(eqx.Module):
    r"""What [`metaopt.fewshot.continual`][] returns.

    With performance $P_{ij} = -\log R_{ij}$, which makes families of different scale comparable (a difference of 0.1 is
    a loss that is a tenth lower):

    - `learner`: the learner after the last family.
    - `losses`: $R_{ij}$, the mean `measure` of held-out tasks of family $j$ after $i$ families; row 0 is before the
        first.
    - `stages`: what [`metaopt.meta_train`][] returned for each family.
    - `names`: of the families, for the table.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{lopezpaz2017gradient,
          title={Gradient Episodic Memory for Continual Learning},
          author={Lopez-Paz, David and Ranzato, Marc'Aurelio},
          booktitle={NeurIPS}, year={2017}
        }
        ```
    """

    learner: Learner
    losses: Float[np.ndarray, "rows families"]
    stages: list[MetaResult]
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def final(self) -> float:
        """The geometric mean over families of the losses at the end."""
        return float(np.exp(np.mean(np.log(self.losses[-1]))))

    @property
    def backward_transfer(self) -> float:
        r"""$\frac{1}{T - 1} \sum_{i < T} (P_{Ti} - P_{ii})$: what later families did to earlier ones; negative is
        forgetting. Zero for a single family."""
        return _mean(np.log(np.diagonal(self.losses[1:])) - np.log(self.losses[-1]), slice(None, -1))

    @property
    def forward_transfer(self) -> float:
        r"""$\frac{1}{T - 1} \sum_{i > 1} (P_{i - 1, i} - P_{0 i})$: what earlier families did for later ones that were
        yet to come. Zero for a single family."""
        return _mean(np.log(self.losses[0]) - np.log(np.diagonal(self.losses)), slice(1, None))

    @property
    def forgetting(self) -> Float[np.ndarray, " families"]:
        r"""$\max_{i \ge j} P_{ij} - P_{Tj}$ for each family, from when it was trained on."""
        logs = np.log(self.losses[1:])
        seen = np.tri(len(logs), dtype=bool)
        return logs[-1] - np.min(np.where(seen, logs, np.inf), axis=0)

    def table(self) -> str:
        """The losses as text, a row for each family that was trained on, and the transfers."""
        width = max(map(len, (*self.names, "before")))
        head = " " * width + "".join(f"  {name:>10}" for name in self.names)
        rows = [
            f"{name:<{width}}" + "".join(f"  {loss:>10.4g}" for loss in losses)
            for name, losses in zip(("before", *self.names), self.losses, strict=True)
        ]
        last = (
            f"final {self.final:.4g}, backward transfer {self.backward_transfer:+.3f}, forward transfer "
            f"{self.forward_transfer:+.3f}"
        )
        return "\n".join([head, *rows, last])


def _mean(differences: Float[np.ndarray, " families"], part: slice) -> float:
    chosen = differences[part]
    return float(np.mean(chosen)) if chosen.size else 0.0


def continual(
    learner: Learner,
    families: Sequence[AbstractTaskFamily],
    problem: MetaProblem,
    *,
    estimator: AbstractEstimator[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    steps: int,
    memory: int = 0,
    share: float | None = None,
    anchor: float = 0.0,
    importance_samples: int = 0,
    names: Sequence[str] | None = None,
    test_tasks: int = 100,
    checkpoint: Place = None,
    checkpoint_seconds: float | None = 600.0,
    resume: bool = False,
    key: PRNGKeyArray,
    progress: bool = True,
) -> ContinualResult:
    r"""Meta-train on families that come one after the other, without forgetting the earlier ones.

    Each family is a [`metaopt.meta_train`][] that begins with the learner that the family before has left. When it is
    over, the family is gone; what remains of it are

    - tasks in a [`metaopt.fewshot.Reservoir`][], if `memory` is not 0. The following meta-steps minimize the mean over
        all families seen so far, the earlier ones by the tasks that were kept: the meta-learner follows the leader;
    - the place of the meta-parameters, if `anchor` is not 0, near which [`metaopt.fewshot.EWC`][] holds them, more so
        where the families before have a large [`metaopt.fewshot.importance`][].

    **Arguments:**

    - `learner`: where to start.
    - `families`: the stream, in its order.
    - `problem`: what to train for; its `family` is replaced by those of the stream. Each meta-gradient has
        `problem.tasks` tasks of the new family, and as many of the reservoir.
    - `estimator`: how meta-gradients are estimated.
    - `outer`: any algorithm; it starts afresh with each family.
    - `steps`: meta-steps for each family.
    - `memory`: how many tasks are kept in all; families whose tasks differ in shape have as many each. 0 replays none.
    - `share`: what the reservoir counts in the meta-gradient, from 0 to 1. By default all families seen so far count
        alike: a half with the second family, two thirds with the third.
    - `anchor`: the rate of the penalty.
    - `importance_samples`: how many meta-gradients estimate the importance after each family; 0 holds all parameters
        alike. Those of several families are added up.
    - `names`: of the families, for the table.
    - `test_tasks`: held-out tasks of each family that losses are means over.
    - `checkpoint`: a folder, which is made if needed, with a checkpoint of [`metaopt.meta_train`][] and its
        curves for each family. No second run can write there at the same time. Or a
        [`metaopt.sharding.CheckpointFolder`][].
    - `checkpoint_seconds`: how many seconds are lost at most if the process is killed; beside that, each family is
        saved at each tenth of its steps, at its end, and on Ctrl-C and SIGTERM.
    - `resume`: go on from what is in that folder. The result has the same bits as that of a run without interruption.
    - `key`: the key of the run.
    - `progress`: whether to show progress bars.

    **Returns:**

    A [`metaopt.fewshot.ContinualResult`][].

    **Raises:**

    - `ValueError`: if there is no family, `memory`, `anchor` or `importance_samples` is negative, `share` not between
        0 and 1, there are more or fewer names than families, `checkpoint_seconds` is not above 0, or for `resume`
        without `checkpoint`.
    - `BlockingIOError`: if another run writes to the folder.
    - `OSError`, [`metaopt.CheckpointError`][]: as [`metaopt.meta_train`][].
    """
    names = tuple(f"family {i + 1}" for i in range(len(families))) if names is None else tuple(names)
    if not families:
        raise ValueError("`families` is empty, but a stream needs at least one.")
    if len(names) != len(families):
        raise ValueError(f"{len(families)} families need as many `names`, but {len(names)} were given.")
    for name, given in (("memory", memory), ("anchor", anchor), ("importance_samples", importance_samples)):
        if given < 0:
            raise ValueError(f"`{name}` must not be negative, but {given} was given.")
    if share is not None and not 0 < share < 1:
        raise ValueError(f"`share` must be between 0 and 1, but {share} was given.")
    if resume and checkpoint is None:
        raise ValueError("`resume=True` needs the folder `checkpoint` to resume from.")
    train_key, test_key, keep_key, weigh_key = jr.split(key, 4)
    tested = problem.horizon.longest

    def losses(learner: Learner) -> list[float]:
        return [float(validate(learner, each, steps=tested, tasks=test_tasks, key=test_key)) for each in families]

    kept: list[tuple[Reservoir, int]] = []
    with locked_place(checkpoint):
        weights, rows, stages = None, [losses(learner)], []
        for index, family in enumerate(families):
            known, rule = dataclasses.replace(problem, family=family), estimator
            if kept:
                known = dataclasses.replace(problem, family=_replay(family, kept, index, share))
                rule = Mixed(estimator, normalize=False)
            held = outer if index == 0 or not anchor else EWC(outer, anchor, weights)
            result = meta_train(
                learner,
                known,
                estimator=rule,
                outer=held,
                steps=steps,
                key=jr.fold_in(train_key, index),
                checkpoint=place_inside(checkpoint, f"family-{index + 1}"),
                checkpoint_seconds=checkpoint_seconds,
                resume=resume,
                progress=progress,
            )
            learner = result.learner
            stages.append(result)
            rows.append(losses(learner))
            if memory:
                kept = _keep(kept, family, memory, key=jr.fold_in(keep_key, index))
            if anchor and importance_samples:
                alone, samples_key = dataclasses.replace(problem, family=family), jr.fold_in(weigh_key, index)
                found = importance(learner, alone, estimator=estimator, samples=importance_samples, key=samples_key)
                weights = found if weights is None else jtu.tree_map(jnp.add, weights, found)
    return ContinualResult(learner, np.asarray(rows), stages, names)


def _replay(family: AbstractTaskFamily, kept: list[tuple[Reservoir, int]], seen: int, share: float | None) -> Mixture:
    """The new family beside the reservoirs, which count as the families that are in them."""
    past = seen / (seen + 1) if share is None else share
    weights = (1 - past, *(past * families / seen for _, families in kept))
    return Mixture((family, *(reservoir for reservoir, _ in kept)), weights)


def _keep(
    kept: list[tuple[Reservoir, int]], family: AbstractTaskFamily, memory: int, *, key: PRNGKeyArray
) -> list[tuple[Reservoir, int]]:
    """Let the reservoir for tasks of this shape see as many tasks of the family as it can hold."""
    like = family.sample(key=key)
    place = next((i for i, (reservoir, _) in enumerate(kept) if _shape(_one(reservoir)) == _shape(like)), None)
    reservoir, families = (Reservoir(like, memory), 0) if place is None else kept[place]
    new = (_fill(reservoir, family, key), families + 1)
    return [*kept, new] if place is None else [*kept[:place], new, *kept[place + 1 :]]


@eqx.filter_jit
def _fill(reservoir: Reservoir, family: AbstractTaskFamily, key: PRNGKeyArray) -> Reservoir:
    dynamic, static = eqx.partition(reservoir, eqx.is_array)

    def body(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, None]:
        task_key, key = jr.split(key)
        new = eqx.combine(dynamic, static).add(family.sample(key=task_key), key=key)
        return eqx.filter(new, eqx.is_array), None

    return eqx.combine(jax.lax.scan(body, dynamic, jr.split(key, reservoir.capacity))[0], static)


def _one(reservoir: Reservoir) -> PyTree:
    return jtu.tree_map(lambda x: x[0] if eqx.is_array(x) else x, reservoir.tasks)


def _shape(task: PyTree) -> Any:
    """What must agree for tasks to be kept together."""
    arrays, rest = eqx.partition(task, eqx.is_array)
    return [(x.shape, x.dtype) for x in jtu.tree_leaves(arrays)], jtu.tree_structure(task), jtu.tree_leaves(rest)
