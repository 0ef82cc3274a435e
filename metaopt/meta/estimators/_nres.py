"""Noise-reuse evolution strategies."""

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._numbers import COUNT, POSITIVE
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._antithetic import Particles, check_std, first_particles, step_particles
from ._persistent import check_truncation


class NRES(AbstractSpreadEstimator[Particles]):
    r"""Noise-reuse evolution strategies: one perturbation per episode, tasks at different clocks.

    A pair of particles runs through a whole episode at $\phi \pm \epsilon$ with the same
    $\epsilon \sim N(0, \sigma^2 I)$:

    $$\hat g = \frac{M}{N} \sum_{i=1}^N \frac{L_j^+ - L_j^-}{2 \sigma^2} \, \epsilon$$

    with $M$ the number of windows in an episode. Unbiased like PES (for the smoothed meta-objective, with $\phi$ held
    still), of lower variance, since noise does not add up along the episode.

    **Arguments:**

    - `std`: the standard deviation $\sigma$ of the perturbations, for all trained leaves alike.
    - `truncation`: the number of steps $K$ in a window, at most the longest horizon.
    - `stagger`: start the tasks at different clocks.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{li2023noise,
          title={Noise-Reuse in Online Evolution Strategies},
          author={Li, Oscar and Harrison, James and Sohl-Dickstein, Jascha
                  and Smith, Virginia and Metz, Luke},
          booktitle={NeurIPS}, year={2023}
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
            reuse=True,
            key=key,
        )

    def estimate(
        self, state: Particles, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[Particles, MetaGradient]:
        check_truncation(self.truncation, problem)
        return step_particles(state, learner, problem, std=self.std, truncation=self.truncation, reuse=True, key=key)
