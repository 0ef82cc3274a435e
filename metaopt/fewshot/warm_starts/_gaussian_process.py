"""The posterior of a Gaussian process over solved problems."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._core.arrays._numbers import NONNEGATIVE, number, usual_promotion
from ...tasks._common import check_choice
from ._predictor import AbstractPredictor, Weights


Kernel = Literal["matern", "squared_exponential"]
# In units of length scales: no kernel reaches this far.
_FAR = 1e4


class GaussianProcess(AbstractPredictor):
    r"""Predict by the posterior of a Gaussian process, one with the same kernel $k$ for each entry of the parameters.

    $$\theta_* \mid \theta_1, \dots, \theta_n \sim N\left(\bar\theta + \sum_i w_i (\theta_i - \bar\theta), \;
      s^2 \left(k(z_*, z_*) - k_*^\top w\right)\right), \qquad w = (K + \sigma^2 I)^{-1} k_*$$

    where $s^2$ is the variance of an entry among the solved problems. With the Matérn kernel ($\nu = 5/2$) parameters
    are less smooth functions of the features than [`metaopt.fewshot.KernelRidge`][] takes them to be, and less is
    promised far from what was solved. Computed by `tensorflow_probability`.

    **Arguments:**

    - `noise`: $\sigma^2$, the variance of the error of solved parameters over their variance among problems.
    - `kernel`: `"matern"` or `"squared_exponential"`.

    **Raises:**

    - `ValueError`: if the kernel is another one.

    ??? cite "Reference"

        ```bibtex
        @book{rasmussen2006gaussian,
          title={Gaussian Processes for Machine Learning},
          author={Rasmussen, Carl Edward and Williams, Christopher K. I.},
          publisher={MIT Press}, year={2006}
        }
        ```
    """

    noise: Float[Array, ""] = eqx.field(converter=number, default=1e-5)
    kernel: Kernel = eqx.field(static=True, default="matern")

    def __check_init__(self) -> None:
        NONNEGATIVE.check(noise=self.noise)
        check_choice("kernel", self.kernel, Kernel)

    def weigh(
        self, features: Float[Array, "capacity d"], filled: Bool[Array, " capacity"], query: Float[Array, " d"]
    ) -> Weights:
        from tensorflow_probability.substrates import jax as tfp

        kernels = tfp.math.psd_kernels
        dtype, size = features.dtype, features.shape[0]
        one = jnp.ones((), dtype)
        make = kernels.MaternFiveHalves if self.kernel == "matern" else kernels.ExponentiatedQuadratic
        # Rows that are not filled are moved away along an axis of their own, where they are correlated with nothing.
        away = jnp.where(filled, 0.0, _FAR * (1.0 + jnp.arange(size, dtype=dtype)))
        at = jnp.concatenate([jnp.where(filled[:, None], features, 0.0), away[:, None]], axis=1)
        point = jnp.concatenate([query, jnp.zeros(1, dtype)])[None]

        def posterior(observations: Float[Array, " capacity"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
            with usual_promotion():
                process = tfp.distributions.GaussianProcessRegressionModel(
                    make(amplitude=one, length_scale=one),
                    index_points=point,
                    observation_index_points=at,
                    observations=observations,
                    observation_noise_variance=self.noise.astype(dtype),
                    predictive_noise_variance=jnp.zeros((), dtype),
                )
                return process.mean()[0], process.variance()[0]

        # The mean is linear in what was observed, so its derivatives are the weights.
        weights, variance = jax.grad(posterior, has_aux=True)(jnp.zeros(size, dtype))
        return Weights(jnp.where(filled, weights, 0.0), jnp.clip(variance, 0.0, 1.0))
