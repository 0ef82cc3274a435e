"""What a good optimization is, as a reward for each decision."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._core.arrays._numbers import NONNEGATIVE, POSITIVE, REAL
from ..base import AbstractReward


def _log(x: Float[Array, ""], floor: float) -> Float[Array, ""]:
    return jnp.log(jnp.maximum(x, floor))


class ConvergenceSpeed(AbstractReward):
    r"""How much the logarithm of the loss fell: $\log v_{t} - \log v_{t+1}$, clipped to $\pm 5$.

    The sum over an episode is $\log v_0 - \log v_T$.

    **Arguments:**

    - `floor`: below which losses are not told apart.
    """

    floor: float = eqx.field(static=True, default=1e-8)

    def __check_init__(self) -> None:
        POSITIVE.check(floor=self.floor)

    def reward(
        self, first: Float[Array, ""], before: Float[Array, ""], after: Float[Array, ""], last: Bool[Array, ""]
    ) -> Float[Array, ""]:
        del first, last
        return jnp.clip(_log(before, self.floor) - _log(after, self.floor), -5, 5)


class Cautious(AbstractReward):
    r"""How much the logarithm of the loss fell, where a rise weighs more: with $d = \log v_t - \log v_{t + 1}$, clipped
    to $\pm 5$, it is $d$ if that is positive, and $c \, d$ otherwise.

    A policy that is trained by it keeps away from settings that fall fast on average, but now and then not at all.

    **Arguments:**

    - `weight`: $c$.
    - `floor`: below which losses are not told apart.
    """

    weight: float = eqx.field(static=True, default=3.0)
    floor: float = eqx.field(static=True, default=1e-8)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(weight=self.weight)
        POSITIVE.check(floor=self.floor)

    def reward(
        self, first: Float[Array, ""], before: Float[Array, ""], after: Float[Array, ""], last: Bool[Array, ""]
    ) -> Float[Array, ""]:
        del first, last
        fall = jnp.clip(_log(before, self.floor) - _log(after, self.floor), -5, 5)
        return jnp.where(fall > 0, fall, self.weight * fall)


class FinalReward(AbstractReward):
    r"""What the loss is in the end, relative to the start: $\log v_0 - \log v_T$, with the last decision.

    **Arguments:**

    - `floor`: below which losses are not told apart.
    """

    floor: float = eqx.field(static=True, default=1e-8)

    def __check_init__(self) -> None:
        POSITIVE.check(floor=self.floor)

    def reward(
        self, first: Float[Array, ""], before: Float[Array, ""], after: Float[Array, ""], last: Bool[Array, ""]
    ) -> Float[Array, ""]:
        del before
        return jnp.where(last, _log(first, self.floor) - _log(after, self.floor), 0)


class Regret(AbstractReward):
    r"""What is left to gain: $-(v_{t + 1} - f_\ast) / (v_0 - f_\ast)$, at least -10.

    **Arguments:**

    - `lowest`: $f_\ast$.
    """

    lowest: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        REAL.check(lowest=self.lowest)

    def reward(
        self, first: Float[Array, ""], before: Float[Array, ""], after: Float[Array, ""], last: Bool[Array, ""]
    ) -> Float[Array, ""]:
        del before, last
        return -jnp.minimum((after - self.lowest) / jnp.maximum(first - self.lowest, 1e-12), 10)


class TimeToTarget(AbstractReward):
    """A reward of -1 for each decision after which the loss is still above a share of the first one.

    **Arguments:**

    - `target`: that share.
    """

    target: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        REAL.check(target=self.target)

    def reward(
        self, first: Float[Array, ""], before: Float[Array, ""], after: Float[Array, ""], last: Bool[Array, ""]
    ) -> Float[Array, ""]:
        del before, last
        return jnp.where(after > self.target * first, -1.0, 0.0).astype(after.dtype)
