"""Persistent evolution strategies."""

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._numbers import COUNT, POSITIVE
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._antithetic import Particles, check_std, first_particles, step_particles
from ._persistent import check_truncation


class PES(AbstractSpreadEstimator[Particles]):
    r"""Persistent evolution strategies: unbiased meta-gradients from truncated episodes.

    A pair of particles runs through each episode at $\phi \pm \epsilon_j$, with a fresh perturbation
    $\epsilon_j \sim N(0, \sigma^2 I)$ in each window $j$. Their contributions differ because of all perturbations so
    far, so the difference is multiplied with their sum:

    $$\hat g = \frac{M}{N} \sum_{i=1}^N \frac{L_j^+ - L_j^-}{2 \sigma^2} \sum_{k \le j} \epsilon_k$$

    with $M$ the number of windows in an episode. Both particles are carried from window to window; with only one of
    them the estimate would be that of truncated evolution strategies, which is biased.

    **Arguments:**

    - `std`: the standard deviation $\sigma$ of the perturbations, for all trained leaves alike.
    - `truncation`: the number of steps $K$ in a window, at most the longest horizon.
    - `stagger`: start the tasks at different clocks.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{vicol2021unbiased,
          title={Unbiased Gradient Estimation in Unrolled Computation Graphs with
                 Persistent Evolution Strategies},
          author={Vicol, Paul and Metz, Luke and Sohl-Dickstein, Jascha},
          booktitle={ICML}, year={2021}
        }
        ```
    """

    std: float = eqx.field(static=True, default=0.01)
    truncation: int = eqx.field(static=True, default=20)
    stagger: bool = eqx.field(static=True, default=True)

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
            stagger=self.stagger,
            reuse=False,
            key=key,
        )

    def estimate(
        self, state: Particles, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[Particles, MetaGradient]:
        check_truncation(self.truncation, problem)
        return step_particles(state, learner, problem, std=self.std, truncation=self.truncation, reuse=False, key=key)
