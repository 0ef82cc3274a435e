"""Model-agnostic meta-learning."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import check_counts
from ...meta import Unrolled
from ..base import AbstractMethod, Setup
from ._common import after_adaptation, descent, draw_initial


class MAML(AbstractMethod):
    r"""Learn where to start, so that a few steps on a task's support data make a small loss on its query data.

    $$\min_\phi \mathbb{E}_\tau \, M_\tau\big(U_\tau^k(\phi)\big), \qquad
      U_\tau(\theta) = \mathrm{step}(\theta, \nabla L_\tau(\theta))$$

    The meta-gradient is exact: derivatives flow through the inner gradients. See [`metaopt.fewshot.FOMAML`][] for the
    cheaper one.

    **Arguments:**

    - `inner`: the algorithm that adapts, any; by default gradient descent with rate 0.01. It is not trained.
    - `steps`: $k$.
    - `tasks`: how many tasks make one meta-gradient.
    - `remat`: recompute inner steps in the backward pass instead of storing them, for long inner loops.
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
    remat: bool = eqx.field(static=True, default=False)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        learner = Learner(descent(self.inner), draw_initial(family, key=key))
        return Setup(learner, after_adaptation(self, family), Unrolled(remat=self.remat))
