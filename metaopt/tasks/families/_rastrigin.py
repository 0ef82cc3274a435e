"""Rastrigin's egg carton, in random positions."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import check_at_least, rotation


class RastriginTask(AbstractLossTask):
    r"""Minimize Rastrigin's function, rotated and shifted.

    $$f(\theta) = \sum_{i=1}^n z_i^2 + c_i (1 - \cos 2 \pi z_i), \qquad z = Q (\theta - s), \quad c_i \ge 0$$

    The start is $\theta_0 \sim N(0, I)$, the minimum is zero. Deterministic; `measure` is the
    loss. Computed in the dtype of the task.

    **Arguments:**

    - `rotation`: $Q$.
    - `shift`: $s$.
    - `amplitudes`: $c$; all 10 in the original.
    """

    rotation: Float[Array, "n n"]
    shift: Float[Array, " n"]
    amplitudes: Float[Array, " n"]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.normal(key, self.shift.shape, self.shift.dtype)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        z = self.rotation @ (params.astype(self.shift.dtype) - self.shift)
        return jnp.sum(jnp.square(z) + self.amplitudes * (1 - jnp.cos(2 * math.pi * z)))

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)

    def minimizer(self) -> Float[Array, " n"]:
        """$s$, where the loss is zero."""
        return self.shift


class Rastrigin(AbstractTaskFamily):
    r"""Draw Rastrigin functions: a bowl with a lattice of local minima, in random positions.

    Each task has a random rotation $Q$, a shift $s \sim N(0, I)$ and amplitudes $c_i = \alpha |\epsilon_i|$ with
    $\epsilon_i \sim N(0, 1)$ in the rule of [`metaopt.tasks.RastriginTask`][]. Random Rastrigin functions of this kind
    were introduced to meta-learning by the paper below; there the coefficients have both signs and the bowl is a random
    quadratic, so that the minimum is not known, whereas here it is zero.

    **Arguments:**

    - `dimension`: $n$.
    - `amplitude`: $\alpha$.

    **Raises:**

    - `ValueError`: if `dimension` is below 1 or `amplitude` is negative.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{cao2019learning,
            title={Learning to optimize in swarms},
            author={Cao, Yue and Chen, Tianlong and Wang, Zhangyang and Shen, Yang},
            booktitle={Advances in Neural Information Processing Systems},
            year={2019},
        }
        ```
    """

    dimension: int = eqx.field(static=True, default=2)
    amplitude: float = eqx.field(static=True, default=10.0)

    def __check_init__(self) -> None:
        check_at_least("dimension", self.dimension, 1)
        check_at_least("amplitude", self.amplitude, 0)

    def sample(self, *, key: PRNGKeyArray) -> RastriginTask:
        rotation_key, shift_key, amplitude_key = jr.split(key, 3)
        return RastriginTask(
            rotation(self.dimension, key=rotation_key),
            jr.normal(shift_key, (self.dimension,)),
            self.amplitude * jnp.abs(jr.normal(amplitude_key, (self.dimension,))),
        )
