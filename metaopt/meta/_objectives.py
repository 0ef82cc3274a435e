"""Meta-objectives."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.arrays._numbers import NONNEGATIVE, POSITIVE, REAL, number
from .base import AbstractObjective, Observation


class MeanLoss(AbstractObjective[None]):
    r"""The mean of the values after each update: $c_t = v_t / H$ (Andrychowicz et al., 2016)."""

    queries: bool = eqx.field(static=True, default=False)

    def init(self) -> None:
        return None

    def contribute(self, state: None, observation: Observation) -> tuple[None, Float[Array, ""]]:
        return None, observation.value / observation.horizon.astype(observation.value.dtype)


class MeanLogLoss(AbstractObjective[None]):
    r"""The mean logarithm of the values, later ones counting more if that is wanted.

    $$c_t = \frac{k (p + 1)}{H} \left(\frac{t}{H}\right)^p \log(v_t + \epsilon) \; [k \text{ divides } t]$$

    The logarithm of a minibatch loss rewards overfitting single batches: a learner trained so improves its meta-loss
    while held-out loss grows. So it is for tasks whose values are deterministic and not negative; or, with
    `queries=True` and the estimator's truncation as `every`, for the task's `measure` at the end of each truncation.

    **Arguments:**

    - `floor`: $\epsilon$.
    - `queries`: whether the value at the end of a truncation, or at a horizon inside of it, is the task's `measure`.
    - `every`: $k$, one value in how many counts.
    - `lateness`: $p$; 0 counts all alike.
    """

    floor: float = eqx.field(static=True, default=1e-8)
    queries: bool = eqx.field(static=True, default=False)
    every: int = eqx.field(static=True, default=1)
    lateness: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(lateness=self.lateness)
        POSITIVE.check(floor=self.floor)
        if self.every < 1:
            raise ValueError(f"`every` must be at least 1, but {self.every} was given.")
        if self.lateness < 0:
            raise ValueError(f"`lateness` must not be negative, but {self.lateness} was given.")

    def init(self) -> None:
        return None

    def contribute(self, state: None, observation: Observation) -> tuple[None, Float[Array, ""]]:
        value = observation.value
        horizon = observation.horizon.astype(value.dtype)
        weight = self.every * (self.lateness + 1) * (observation.clock.astype(value.dtype) / horizon) ** self.lateness
        counted = observation.clock % self.every == 0
        return None, jnp.where(counted, weight * jnp.log(value + self.floor) / horizon, 0.0)


class FinalLoss(AbstractObjective[None]):
    r"""The value after the last update: $c_t = v_H \, [t = H]$.

    With `queries=True` that value is the task's `measure`, which for few-shot tasks is the loss on query data.
    """

    queries: bool = eqx.field(static=True, default=False)

    def init(self) -> None:
        return None

    def contribute(self, state: None, observation: Observation) -> tuple[None, Float[Array, ""]]:
        last = observation.clock == observation.horizon
        return None, jnp.where(last, observation.value, jnp.zeros_like(observation.value))


class BestLoss(AbstractObjective[Float[Array, ""]]):
    r"""The smallest value of the episode, $\min_t v_t$, as a telescoping sum:
    $c_t = \min(b_{t-1}, v_t) - b_{t-1}$ with $b_t = \min(b_{t-1}, v_t)$ and $c_1 = v_1$."""

    queries: bool = eqx.field(static=True, default=False)

    def init(self) -> Float[Array, ""]:
        return jnp.asarray(jnp.inf, jnp.result_type(float))

    def contribute(
        self, state: Float[Array, ""], observation: Observation
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        value = observation.value.astype(state.dtype)
        first = observation.clock == 1
        best = jnp.where(first, value, jnp.minimum(state, value))
        # The branch that is not taken must stay finite, or its gradient is NaN.
        before = jnp.where(first, jnp.zeros_like(state), jnp.where(jnp.isfinite(state), state, 0.0))
        return best, best - before


class TimeToTarget(AbstractObjective[Float[Array, ""]]):
    r"""The share of the episode that passes before the target is reached, softened.

    $$c_t = \frac{1}{H}\Big(1 - \max_{s \le t} \sigma\big((v^* - v_s) / T\big)\Big)$$

    For a small temperature $T$ the sum is the first $t$ with $v_t \le v^*$, divided by $H$.
    """

    target: Float[Array, ""] = eqx.field(converter=number)
    temperature: Float[Array, ""] = eqx.field(converter=number, default=0.1)
    queries: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        REAL.check(target=self.target)
        POSITIVE.check(temperature=self.temperature)

    def init(self) -> Float[Array, ""]:
        return jnp.zeros((), jnp.result_type(float))

    def contribute(
        self, state: Float[Array, ""], observation: Observation
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        target, temperature = jax.lax.stop_gradient((self.target, self.temperature))
        gap = (target - observation.value.astype(target.dtype)) / temperature
        reached = jnp.maximum(state, jax.nn.sigmoid(gap).astype(state.dtype))
        return reached, (1.0 - reached) / observation.horizon.astype(state.dtype)
