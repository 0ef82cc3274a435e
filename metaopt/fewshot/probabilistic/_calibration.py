"""How far probabilities can be believed."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from ..._core import AbstractTaskFamily, Learner
from ..._core.arrays._numbers import check_counts, usual_promotion
from ...tasks import FewShotTask
from .._meta_learn import adapt
from ._ensemble import EnsembleFamily, EnsembleTask


@dataclasses.dataclass(frozen=True)
class Calibration:
    r"""How often what was given a probability came true.

    - `log_score`: the mean negative logarithm of the predictive density of the answers, in nats. Lower is better.
    - `promised`: probabilities $p$: of a regression, of central intervals; of a classification, mean confidences of
        bins of predictions that are sorted by confidence.
    - `kept`: the share of answers in these intervals; the accuracy of these bins.
    - `error`: the mean of $|\mathrm{promised} - \mathrm{kept}|$.
    - `spread`: the mean standard deviation of a regression's predictions, or the mean entropy of a classification's.
    """

    log_score: float
    promised: Float[np.ndarray, " levels"]
    kept: Float[np.ndarray, " levels"]
    error: float
    spread: float


def calibration(
    learner: Learner,
    family: AbstractTaskFamily,
    *,
    steps: int,
    tasks: int = 600,
    levels: int = 10,
    key: PRNGKeyArray,
    batch_size: int = 100,
) -> Calibration:
    """Adapt to many tasks, and hold what is predicted about their query data against the answers.

    **Arguments:**

    - `learner`: trained by [`metaopt.fewshot.ProbabilisticMAML`][].
    - `family`: of the tasks, ones not seen in training.
    - `steps`: how many steps of adaptation.
    - `tasks`: how many tasks.
    - `levels`: how many intervals, or bins.
    - `key`: draws the tasks and the starts.
    - `batch_size`: how many tasks run side by side.

    **Returns:**

    A [`metaopt.fewshot.Calibration`][].

    **Raises:**

    - `TypeError`: if the tasks of the family are neither few-shot classification nor regression.
    - `ValueError`: if a number is below 1, or the learner has no initialization.
    """
    check_counts(steps=steps, tasks=tasks, levels=levels, batch_size=batch_size)
    keys = jr.split(key, tasks)
    ensembles = EnsembleFamily(family)
    scores, places, right, spread = _predict(learner, ensembles, steps, batch_size, keys)
    places, right = np.asarray(places, float).ravel(), np.asarray(right).ravel()
    if ensembles.classifies:
        bins = np.array_split(np.argsort(places), levels)
        promised = np.asarray([np.mean(places[each]) for each in bins])
        kept = np.asarray([np.mean(right[each]) for each in bins])
    else:
        promised = (np.arange(levels) + 1) / (levels + 1)
        kept = np.asarray([np.mean(np.abs(2 * places - 1) <= level) for level in promised])
    error = float(np.mean(np.abs(promised - kept)))
    return Calibration(float(jnp.mean(scores)), promised, kept, error, float(jnp.mean(spread)))


@eqx.filter_jit
def _predict(
    learner: Learner, family: EnsembleFamily, steps: int, batch_size: int, keys: Key[Array, " tasks"]
) -> tuple[Float[Array, " tasks"], Float[Array, "tasks n"], Bool[Array, "tasks n"], Float[Array, " tasks"]]:
    """Of each task: the score; for each answer its place in the predicted distribution, or the confidence and whether
    that was right; and how spread out predictions are."""

    def one(key: PRNGKeyArray) -> tuple[Array, Array, Array, Array]:
        task_key, run_key = jr.split(key)
        task: EnsembleTask = family.sample(key=task_key)
        params = adapt(learner, task, steps=steps, key=run_key).params
        score = task.measure(params, key=run_key)
        predicted = task.predictive(params)
        if isinstance(task.task, FewShotTask):
            chances = jax.nn.softmax(predicted.logits_parameter())
            right = jnp.argmax(chances, axis=1) == task.answers
            return score, jnp.max(chances, axis=1), right, jnp.mean(predicted.entropy())
        places = predicted.cdf(task.answers)
        return score, places, jnp.zeros(places.shape, bool), jnp.mean(predicted.stddev())

    with usual_promotion():
        return jax.lax.map(one, keys, batch_size=batch_size)
