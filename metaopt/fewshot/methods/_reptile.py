"""Reptile."""

from typing import Any

import equinox as eqx
import optax
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner, from_optax
from ..._core.arrays._numbers import check_counts
from ...meta import Displacement
from ..base import AbstractMethod, Setup
from ._common import after_adaptation, draw_initial


class Reptile(AbstractMethod):
    r"""Learn where to start by moving towards where tasks end.

    $$\phi \leftarrow \mathrm{outer}\Big(\phi, \; \frac1N \sum_\tau \phi - U_\tau^k(\phi)\Big)$$

    No derivative of the inner loop is taken, so the inner algorithm may be any. See [`metaopt.meta.Displacement`][],
    which averages over the tasks.

    **Arguments:**

    - `inner`: the algorithm that adapts, any; by default Adam with rate 0.01 and without momentum, as published.
    - `steps`: $k$, at least 2 to learn more than joint training does.
    - `tasks`: how many tasks make one step.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is below 1.

    ??? cite "Reference"

        ```bibtex
        @article{nichol2018first,
          title={On First-Order Meta-Learning Algorithms},
          author={Nichol, Alex and Achiam, Joshua and Schulman, John},
          journal={arXiv:1803.02999}, year={2018}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any] | None = None
    steps: int = eqx.field(static=True, default=10)
    tasks: int = eqx.field(static=True, default=25)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        inner = from_optax(optax.adam, learning_rate=0.01, b1=0.0) if self.inner is None else self.inner
        learner = Learner(inner, draw_initial(family, key=key))
        return Setup(learner, after_adaptation(self, family), Displacement())
