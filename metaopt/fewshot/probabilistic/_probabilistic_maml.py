"""Model-agnostic meta-learning of a distribution."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import POSITIVE, check_counts, number
from ...meta import Unrolled
from ..base import AbstractMethod, Setup
from ..methods._common import after_adaptation, descent, draw_initial
from ._ensemble import EnsembleFamily, GaussianStart, Mixing


class ProbabilisticMAML(AbstractMethod):
    r"""Learn a distribution of starts, so that networks that adapt from it are as unsure as they should be.

    $$\max_{\mu, \lambda, s, g, \beta} \mathbb{E}_\tau \mathbb{E}_\epsilon \frac1n \sum_i
      \log \sum_{j=1}^m w_j \, p_j(y_i \mid x_i), \qquad
      \theta_j = U_\tau^k(\mu + e^\lambda \odot \epsilon_j)$$

    over query data $(x_i, y_i)$: starts are drawn from [`metaopt.fewshot.GaussianStart`][], adapt, and predict
    together, each with a weight and a width that say how well it fits the support data
    ([`metaopt.fewshot.Mixing`][]). The log score is proper: no other probabilities do better than the true ones.
    Adapt with [`metaopt.fewshot.adapt`][] to a [`metaopt.fewshot.EnsembleTask`][], and see how well it is calibrated
    with [`metaopt.fewshot.calibration`][].

    What differs from the paper: there, training draws starts from an approximate posterior that sees the query data,
    and is held to the prior by a divergence; here, draws from the prior are weighted by the support data and scored by
    their mixture, which needs neither, but several members at once.

    **Arguments:**

    - `inner`: the algorithm that adapts each member; by default gradient descent with rate 0.01. It is not trained.
    - `steps`: $k$.
    - `tasks`: how many tasks make one meta-gradient.
    - `members`: $m$.
    - `scale`: $e^\lambda$ before training.
    - `noise`: $s$ before training; $g$ and $\beta$ begin at 1.
    - `remat`: recompute inner steps in the backward pass instead of storing them.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is out of range.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{finn2018probabilistic,
          title={Probabilistic Model-Agnostic Meta-Learning},
          author={Finn, Chelsea and Xu, Kelvin and Levine, Sergey},
          booktitle={NeurIPS}, year={2018}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any] | None = None
    steps: int = eqx.field(static=True, default=5)
    tasks: int = eqx.field(static=True, default=25)
    members: int = eqx.field(static=True, default=8)
    scale: float = eqx.field(static=True, default=0.05)
    noise: float = eqx.field(static=True, default=0.3)
    remat: bool = eqx.field(static=True, default=False)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        POSITIVE.check(scale=self.scale, noise=self.noise)
        check_counts(steps=self.steps, tasks=self.tasks, members=self.members, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        ensembles = EnsembleFamily(family, self.members)
        mean = draw_initial(family, key=key)
        log_scale = jtu.tree_map(
            lambda x: jnp.full_like(x, jnp.log(self.scale)), eqx.filter(mean, eqx.is_inexact_array)
        )
        mixing = Mixing(jnp.log(number(self.noise)), number(0.0), number(0.0))
        start = GaussianStart(mean, log_scale, mixing, self.members)
        problem = after_adaptation(self, ensembles)
        return Setup(Learner(descent(self.inner), start), problem, Unrolled(remat=self.remat))
