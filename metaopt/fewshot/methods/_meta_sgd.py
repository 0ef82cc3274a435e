"""Meta-SGD."""

import dataclasses

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractTaskFamily, Learner
from ..._core.arrays._numbers import POSITIVE, check_counts
from ...meta import Unrolled
from ..base import AbstractMethod, Setup
from ..inner._per_parameter_sgd import PerParameterSGD
from ._common import after_adaptation, draw_initial


class MetaSGD(AbstractMethod):
    r"""Learn where to start and, for each parameter, how fast and in which direction to go.

    $$\min_{\phi, \alpha} \mathbb{E}_\tau \, M_\tau(\theta_k), \qquad
      \theta_0 = \phi, \quad \theta_{t+1} = \theta_t - \alpha \odot \nabla L_\tau(\theta_t)$$

    **Arguments:**

    - `rate`: what all entries of $\alpha$ are to begin with.
    - `steps`: $k$.
    - `tasks`: how many tasks make one meta-gradient.
    - `remat`: recompute inner steps in the backward pass instead of storing them, for long inner loops.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is below 1, or the rate is not positive.

    ??? cite "Reference"

        ```bibtex
        @article{li2017meta,
          title={Meta-{SGD}: Learning to Learn Quickly for Few-Shot Learning},
          author={Li, Zhenguo and Zhou, Fengwei and Chen, Fei and Li, Hang},
          journal={arXiv:1707.09835}, year={2017}
        }
        ```
    """

    rate: float = eqx.field(static=True, default=0.01)
    steps: int = eqx.field(static=True, default=5)
    tasks: int = eqx.field(static=True, default=25)
    remat: bool = eqx.field(static=True, default=False)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        POSITIVE.check(rate=self.rate)
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        initial = draw_initial(family, key=key)
        learner = Learner(PerParameterSGD.like(initial, self.rate), initial)
        problem = dataclasses.replace(after_adaptation(self, family), trainable=None)
        return Setup(learner, problem, Unrolled(remat=self.remat))
