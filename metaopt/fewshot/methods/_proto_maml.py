"""Model-agnostic meta-learning from prototypes."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractStart, AbstractTask, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import POSITIVE, check_counts, number
from ...meta import Unrolled
from ...tasks import FewShotTask
from ..base import AbstractMethod, Setup
from ..inner._per_parameter_sgd import PerParameterSGD
from ._common import after_adaptation, draw_initial


class PrototypeStart(AbstractStart):
    r"""A network whose last layer begins as the rule of the nearest prototype.

    With features $h_\phi$ and their means $c_k$ over the support examples of class $k$, the output for class $k$ is

    $$2 s \, c_k^\top h_\phi(x) - s \lVert c_k \rVert^2
      = -s \lVert h_\phi(x) - c_k \rVert^2 + s \lVert h_\phi(x) \rVert^2$$

    whose last term is the same for all classes.

    **Arguments:**

    - `network`: $\phi$, parameters of a network of the family; those of its last layer are replaced.
    - `log_scale`: $\log s$.
    """

    network: tuple[Any, ...]
    log_scale: Float[Array, ""]

    def draw(self, task: AbstractTask[Any, Any], *, key: PRNGKeyArray) -> tuple[Any, ...]:
        del key
        if not isinstance(task, FewShotTask):
            raise TypeError(
                f"Prototypes are of classes: `PrototypeStart` is for `FewShotTask`, but a `{type(task).__name__}` was "
                "given. Use `metaopt.fewshot.MAML`."
            )
        ways, shots, _ = task.support.shape
        features = task.network.features(self.network, task.support.reshape(ways * shots, -1))
        centers = jnp.mean(features.reshape(ways, shots, -1), axis=1)
        scale = jnp.exp(self.log_scale).astype(centers.dtype)
        squares = jnp.sum(jnp.square(centers), axis=1)
        return (*self.network[:-1], self.network[-1] | {"w": 2 * scale * centers.T, "b": -scale * squares})


class ProtoMAML(AbstractMethod):
    r"""Learn features whose prototypes are a good start, and how to adapt from there.

    $$\min_{\phi, s, \alpha} \mathbb{E}_\tau \, M_\tau\big(U_{\tau, \alpha}^k(\theta_0)\big), \qquad
      U_{\tau, \alpha}(\theta) = \theta - \alpha \odot \nabla L_\tau(\theta)$$

    where $\theta_0$ is $\phi$ with the last layer of [`metaopt.fewshot.PrototypeStart`][]. Derivatives flow through the
    prototypes. As in [`metaopt.fewshot.MetaSGD`][], there is a learned rate $\alpha$ for each number.

    For few-shot classification: [`metaopt.tasks.FewShot`][].

    **Arguments:**

    - `rate`: $\alpha$ before training.
    - `steps`: $k$.
    - `tasks`: how many tasks make one meta-gradient.
    - `scale`: $s$ before training, times the number of features.
    - `remat`: recompute inner steps in the backward pass instead of storing them.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is out of range.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{triantafillou2020meta,
          title={Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples},
          author={Triantafillou, Eleni and Zhu, Tyler and Dumoulin, Vincent and Lamblin, Pascal and Evci, Utku and
              Xu, Kelvin and Goroshin, Ross and Gelada, Carles and Swersky, Kevin and Manzagol, Pierre-Antoine and
              Larochelle, Hugo},
          booktitle={ICLR}, year={2020}
        }
        ```
    """

    rate: float = eqx.field(static=True, default=0.01)
    steps: int = eqx.field(static=True, default=5)
    tasks: int = eqx.field(static=True, default=4)
    scale: float = eqx.field(static=True, default=10.0)
    remat: bool = eqx.field(static=True, default=False)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        POSITIVE.check(rate=self.rate, scale=self.scale)
        check_counts(steps=self.steps, tasks=self.tasks, batch_size=self.batch_size)

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        network = draw_initial(family, key=key)
        log_scale = jnp.log(number(self.scale / network[-1]["w"].shape[0]))
        learner = Learner(PerParameterSGD.like(network, self.rate), PrototypeStart(network, log_scale))
        problem = dataclasses.replace(after_adaptation(self, family), trainable=None)
        return Setup(learner, problem, Unrolled(remat=self.remat))
