"""ES-Single."""

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._numbers import COUNT, POSITIVE
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._antithetic import Particles, check_std, first_particles, step_particles
from ._persistent import check_truncation


class ESSingle(AbstractSpreadEstimator[Particles]):
    r"""ES-Single: one perturbation per episode, all tasks at the same clock.

    The estimate of a window is

    $$\hat g = \frac{M}{N} \sum_{i=1}^N \frac{L_j^+ - L_j^-}{2 \sigma^2} \, \epsilon$$

    with the episode's one perturbation $\epsilon \sim N(0, \sigma^2 I)$ and $M$ windows in an episode; summed over
    the windows of an episode it equals evolution strategies on the full unroll. All tasks start and end together;
    [`metaopt.meta.NRES`][] spreads them over all clocks.

    **Arguments:**

    - `std`: the standard deviation $\sigma$ of the perturbations, for all trained leaves alike.
    - `truncation`: the number of steps $K$ in a window, at most the longest horizon.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{vicol2023low,
          title={Low-Variance Gradient Estimation in Unrolled Computation Graphs with ES-Single},
          author={Vicol, Paul},
          booktitle={ICML}, year={2023}
        }
        ```
    """

    std: float = eqx.field(static=True, default=0.01)
    truncation: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        POSITIVE.check(std=self.std)
        COUNT.check(truncation=self.truncation)
        check_std(self.std)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> Particles:
        check_truncation(self.truncation, problem)
        return first_particles(
            learner,
            problem,
            std=self.std,
            truncation=self.truncation,
            stagger=False,
            reuse=True,
            key=key,
        )

    def estimate(
        self, state: Particles, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[Particles, MetaGradient]:
        check_truncation(self.truncation, problem)
        return step_particles(state, learner, problem, std=self.std, truncation=self.truncation, reuse=True, key=key)
