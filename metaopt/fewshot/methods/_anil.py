"""Almost no inner loop."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import check_counts
from ...meta import Unrolled
from ..base import AbstractMethod, Setup
from ..inner._only_parts import OnlyParts
from ._common import after_adaptation, descent, draw_initial


class ANIL(AbstractMethod):
    r"""Learn where to start when the head of a network adapts and its body does not.

    $$\phi = (\phi_b, \phi_h), \qquad \theta_k = \big(\phi_b, \, U_\tau^k(\phi_h)\big)$$

    Body and head are both learned across tasks; within a task, the body is a fixed feature extractor.

    **Arguments:**

    - `head`: which leaves adapt, by their paths: a pattern, or several, as in [`metaopt.fewshot.OnlyParts`][]. For
        three layers of `metaopt.tasks.DenseNetwork`, `"2/*"`.
    - `inner`: the algorithm that adapts, any; by default gradient descent with rate 0.01. It is not trained.
    - `steps`: $k$.
    - `tasks`: how many tasks make one meta-gradient.
    - `remat`: recompute inner steps in the backward pass instead of storing them, for long inner loops.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is below 1; at `setup`, if a pattern matches nothing.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{raghu2020rapid,
          title={Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of {MAML}},
          author={Raghu, Aniruddh and Raghu, Maithra and Bengio, Samy and Vinyals, Oriol},
          booktitle={ICLR}, year={2020}
        }
        ```
    """

    head: str | tuple[str, ...] = eqx.field(static=True)
    inner: AbstractAlgorithm[Any, Any, Any] | None = None
    steps: int = eqx.field(static=True, default=5)
    tasks: int = eqx.field(static=True, default=25)
    remat: bool = eqx.field(static=True, default=False)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        initial = draw_initial(family, key=key)
        algorithm = OnlyParts(descent(self.inner), self.head)
        # A pattern that matches nothing shows here.
        eqx.filter_eval_shape(algorithm.init, initial)
        return Setup(Learner(algorithm, initial), after_adaptation(self, family), Unrolled(remat=self.remat))
