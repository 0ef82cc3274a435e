"""Several adapted networks in the place of one, and what they predict together."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractStart, AbstractTask, AbstractTaskFamily
from ..._core.arrays._numbers import check_counts, number
from ...tasks import AbstractRegressionTask, FewShotTask


class Ensemble(eqx.Module):
    """Parameters of several networks, and how their predictions are put together.

    - `members`: their parameters, stacked.
    - `mixing`: see [`metaopt.fewshot.Mixing`][]; no step changes it, as signals hold `None` in its places.
    """

    members: PyTree
    mixing: "Mixing"


class Mixing(eqx.Module):
    r"""How much networks are believed, given how well they fit the support data.

    Let $L_j$ be member $j$'s loss on the support data, once it has adapted. It gets the weight
    $w_j \propto e^{-\beta L_j}$, and, in a regression, answers $N(f_j(x), s_j^2)$ with $s_j^2 = s^2 + g L_j$: who fits
    badly is believed less, and admits more.

    - `log_noise`: $\log s$.
    - `log_gain`: $\log g$.
    - `log_trust`: $\log \beta$.
    """

    log_noise: Float[Array, ""] | None
    log_gain: Float[Array, ""] | None
    log_trust: Float[Array, ""] | None


class GaussianStart(AbstractStart):
    r"""A normal distribution of starts, with a variance for each parameter, from which an ensemble begins.

    $$\phi_j = \mu + e^\lambda \odot \epsilon_j, \qquad \epsilon_j \sim N(0, I), \qquad j = 1, \dots, m$$

    **Arguments:**

    - `mean`, `log_scale`: $\mu$ and $\lambda$, of one structure.
    - `mixing`: how the members' predictions are put together.
    - `members`: $m$. May be changed after training.
    """

    mean: PyTree
    log_scale: PyTree
    mixing: Mixing
    members: int = eqx.field(static=True)

    def draw(self, task: AbstractTask[Any, Any], *, key: PRNGKeyArray) -> Ensemble:
        del task
        leaves, structure = jtu.tree_flatten(self.mean)
        keys = jtu.tree_unflatten(structure, list(jr.split(key, len(leaves))))

        def spread(mean: Any, log_scale: Any, key: PRNGKeyArray) -> Any:
            if not eqx.is_inexact_array(mean):
                return mean
            noise = jr.normal(key, (self.members, *mean.shape), mean.dtype)
            return mean[None] + jnp.exp(log_scale)[None] * noise

        return Ensemble(jtu.tree_map(spread, self.mean, self.log_scale, keys), self.mixing)


class EnsembleTask(AbstractTask[Ensemble, Ensemble]):
    r"""A task for several networks, each of which adapts by itself, and which predict together.

    The signal holds each member's own, the value is the mean of theirs. `measure` is the negative logarithm of the
    predictive density of query data, in nats per answer:

    $$-\frac1n \sum_i \log \sum_j w_j \, p_j(y_i \mid x_i)$$

    where $p_j$ is the normal distribution of [`metaopt.fewshot.Mixing`][] for a regression, and the softmax of the
    network's outputs for a classification; the weights $w_j$ are said there.

    **Arguments:**

    - `task`: a [`metaopt.tasks.FewShotTask`][], or a regression such as [`metaopt.tasks.SinusoidsTask`][].
    - `members`: how many networks `init` draws.
    """

    task: AbstractRegressionTask | FewShotTask
    members: int = eqx.field(static=True, default=1)

    def init(self, *, key: PRNGKeyArray) -> Ensemble:
        drawn = jax.vmap(lambda key: self.task.init(key=key))(jr.split(key, self.members))
        return Ensemble(drawn, Mixing(*(number(0.0) for _ in range(3))))

    def evaluate(self, params: Ensemble, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Ensemble]:
        values, signals = eqx.filter_vmap(lambda member: self.task.evaluate(member, key=key))(params.members)
        return jnp.mean(values), Ensemble(signals, Mixing(None, None, None))

    def measure(self, params: Ensemble, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        log_weights, deviations = self._mix(params)
        # Not by the distribution of `predictive`: its derivative is NaN where compilers do not fuse.
        if isinstance(self.task, FewShotTask):
            logits = jax.nn.log_softmax(eqx.filter_vmap(self.task.logits)(params.members))
            logs = jnp.take_along_axis(logits, self.answers[None, :, None], axis=2)[:, :, 0]
        else:
            away = self.answers[None] - eqx.filter_vmap(self.task.outputs)(params.members)
            logs = -0.5 * (away / deviations[:, None]) ** 2 - jnp.log(deviations)[:, None] - 0.5 * math.log(2 * math.pi)
        return -jnp.mean(jax.nn.logsumexp(logs + log_weights[:, None], axis=0))

    @property
    def answers(self) -> Array:
        """What is to be predicted: values, or numbers of classes."""
        if isinstance(self.task, FewShotTask):
            return self.task.labels
        return self.task.target(self.task.query)

    def predictive(self, params: Ensemble) -> Any:
        """What the members say about query data together: a distribution of `tensorflow_probability`, with a batch
        of one entry per answer."""
        from tensorflow_probability.substrates.jax import distributions as tfd

        log_weights, deviations = self._mix(params)
        if isinstance(self.task, FewShotTask):
            logits = jax.nn.log_softmax(eqx.filter_vmap(self.task.logits)(params.members))
            return tfd.Categorical(logits=jax.nn.logsumexp(logits + log_weights[:, None, None], axis=0))
        means = eqx.filter_vmap(self.task.outputs)(params.members).T
        one = jnp.ones_like(means)
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=log_weights[None] * one), tfd.Normal(means, deviations[None] * one)
        )

    def _mix(self, params: Ensemble) -> tuple[Float[Array, " members"], Float[Array, " members"]]:
        """Logarithms of weights, and the standard deviations of a regression's answers."""
        noise, gain, trust = params.mixing.log_noise, params.mixing.log_gain, params.mixing.log_trust
        if noise is None or gain is None or trust is None:
            raise ValueError("An ensemble without `mixing` is a signal: it predicts nothing. Pass the parameters.")
        losses = eqx.filter_vmap(lambda member: self.task.loss(member, key=jr.key(0)))(params.members)
        log_weights = jax.nn.log_softmax(-jnp.exp(trust) * losses)
        return log_weights, jnp.sqrt(jnp.exp(2 * noise) + jnp.exp(gain) * losses)


class EnsembleFamily(AbstractTaskFamily):
    """The tasks of a family, for several networks each.

    **Arguments:**

    - `family`: of few-shot classification, or of regression.
    - `members`: how many networks a task's `init` draws.

    **Raises:**

    - `TypeError`: if its tasks are of another kind.
    - `ValueError`: if `members` is below 1.
    """

    family: AbstractTaskFamily
    members: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        check_counts(members=self.members)
        task = self._example()
        if not isinstance(task, AbstractRegressionTask | FewShotTask):
            raise TypeError(
                f"The tasks of `{type(self.family).__name__}` are `{type(task).__name__}`s, which do not say how "
                "likely their query data are. Take few-shot classification (`metaopt.tasks.FewShot`) or regression "
                "(`metaopt.tasks.Sinusoids`, `Functions`)."
            )

    @property
    def classifies(self) -> bool:
        """Whether answers are classes."""
        return isinstance(self._example(), FewShotTask)

    def _example(self) -> Any:
        return eqx.filter_eval_shape(lambda key: self.family.sample(key=key), jr.key(0))

    def sample(self, *, key: PRNGKeyArray) -> EnsembleTask:
        task: Any = self.family.sample(key=key)
        return EnsembleTask(task, self.members)
