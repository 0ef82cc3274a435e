"""Model-agnostic meta-learning with implicit gradients."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import POSITIVE, check_counts
from ...meta import Implicit, Proximal
from ..base import AbstractMethod, Setup
from ._common import after_adaptation, descent, draw_initial


class IMAML(AbstractMethod):
    r"""Learn where to start when adaptation is a minimization that is held near the start.

    $$\min_\phi \mathbb{E}_\tau \, M_\tau(\theta^*_\tau), \qquad
      \theta^*_\tau = \arg\min_\theta L_\tau(\theta) + \tfrac\lambda2 \lVert \theta - \phi \rVert^2$$

    The meta-gradient is that of [`metaopt.meta.Implicit`][]: inner loops may be long, and of algorithms without a
    derivative.

    **Arguments:**

    - `inner`: the algorithm that minimizes, any; by default gradient descent with rate 0.01. It is not trained.
    - `strength`: $\lambda$. Where the most negative curvature at the end of the inner loop exceeds it, conjugate
        gradients may fail; such tasks are left out of the meta-gradient, and counted.
    - `steps`: how many steps the minimization has. The meta-gradient is as exact as it is converged.
    - `tasks`: how many tasks make one meta-gradient.
    - `tolerance`, `max_steps`: of conjugate gradients.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is out of range.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{rajeswaran2019meta,
          title={Meta-Learning with Implicit Gradients},
          author={Rajeswaran, Aravind and Finn, Chelsea and Kakade, Sham and Levine, Sergey},
          booktitle={NeurIPS}, year={2019}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any] | None = None
    strength: float = eqx.field(static=True, default=2.0)
    steps: int = eqx.field(static=True, default=25)
    tasks: int = eqx.field(static=True, default=25)
    tolerance: float = eqx.field(static=True, default=1e-5)
    max_steps: int = eqx.field(static=True, default=20)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        POSITIVE.check(strength=self.strength, tolerance=self.tolerance)
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)
        Implicit(self.tolerance, self.max_steps)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        algorithm = Proximal(descent(self.inner), self.strength)
        learner = Learner(algorithm, draw_initial(family, key=key))
        return Setup(learner, after_adaptation(self, family), Implicit(self.tolerance, self.max_steps))
