"""How parameters of solved problems are combined to those of a new one."""

import abc

import equinox as eqx
from jaxtyping import Array, Bool, Float


class Weights(eqx.Module):
    """What a predictor says about a new problem.

    - `weights`: what the parameters of each solved problem are multiplied with, after their mean is subtracted.
    - `variance`: the variance of the prediction over that of the parameters among problems that are not alike.
    """

    weights: Float[Array, " capacity"]
    variance: Float[Array, ""]


class AbstractPredictor(eqx.Module):
    r"""A way to predict parameters $\theta_*$ from those of solved problems, linear in them.

    $$\theta_* = \bar\theta + \sum_i w_i(z_*) \, (\theta_i - \bar\theta)$$

    with features $z$ divided by their scales, so that problems at a distance of about 1 are alike.
    """

    @abc.abstractmethod
    def weigh(
        self, features: Float[Array, "capacity d"], filled: Bool[Array, " capacity"], query: Float[Array, " d"]
    ) -> Weights:
        """The weights of the solved problems, zero where a row is not filled.

        **Arguments:**

        - `features`: those of the solved problems, divided by their scales.
        - `filled`: which rows hold a problem; at least one does.
        - `query`: those of the new problem, divided by their scales.
        """
