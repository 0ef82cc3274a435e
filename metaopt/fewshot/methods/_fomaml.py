"""First-order model-agnostic meta-learning."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import check_counts
from ...meta import Unrolled
from ..base import AbstractMethod, Setup
from ._common import after_adaptation, descent, draw_initial


class FOMAML(AbstractMethod):
    r"""Learn where to start as MAML does, but without second derivatives: inner gradients count as constants.

    $$\hat g = \nabla M_\tau(\theta_k) \, \frac{\partial \theta_k}{\partial \phi}
      \Big|_{\nabla L_\tau \text{ fixed}}$$

    With gradient descent inside that is the query gradient at the adapted parameters, $\nabla M_\tau(\theta_k)$.
    Cheaper than [`metaopt.fewshot.MAML`][], and biased where the loss is curved.

    **Arguments:**

    - `inner`: the algorithm that adapts, any; by default gradient descent with rate 0.01. It is not trained.
    - `steps`: $k$.
    - `tasks`: how many tasks make one meta-gradient.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is below 1.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{finn2017model,
          title={Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks},
          author={Finn, Chelsea and Abbeel, Pieter and Levine, Sergey},
          booktitle={ICML}, year={2017}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any] | None = None
    steps: int = eqx.field(static=True, default=5)
    tasks: int = eqx.field(static=True, default=25)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        learner = Learner(descent(self.inner), draw_initial(family, key=key))
        return Setup(learner, after_adaptation(self, family, second_order=False), Unrolled())
