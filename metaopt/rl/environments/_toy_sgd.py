"""Rate and momentum of gradient descent on parabolas."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core.arrays._numbers import POSITIVE, check_counts
from .._spaces import Box
from ..base import AbstractEnvironment, Timestep


class _ToyState(eqx.Module):
    curvature: Float[Array, ""]
    place: Float[Array, ""]
    x: Float[Array, ""]
    velocity: Float[Array, ""]
    gradient: Float[Array, ""]
    action: Float[Array, " two"]
    clock: Int[Array, ""]


class ToySGD(AbstractEnvironment[_ToyState]):
    r"""Set the learning rate and the momentum of gradient descent on random parabolas.

    The action is $(\log_{10} \alpha, \log_{10} \beta) \in [-10, 0]^2$, and with
    $f(x) = c_2 x^2 + c_1 x + c_0$ a step is

    $$v \leftarrow \beta v + \alpha g, \qquad x \leftarrow x - v, \qquad g \leftarrow f'(x), \qquad
      r = -\log_{10} (f(x) - f_\ast)$$

    The first gradient is 0, so the first step leads nowhere. $c_2$ is uniform between 0 and `high`, $c_1$ between
    `-high` and `high`, and $x_0$ between -5 and 5. The observation holds the remaining share of the budget,
    $\mathrm{arsinh}\, g$, and the last action over 10.

    The regret is taken to be at least $10^{-12}$. The task is the one that is described for `ToySGD` of DACBench, and
    not what its release 0.5.6 runs: there, the default instances are straight lines $a + b x$, which have no minimum,
    with $|f(x) - f(-b / 2 a)|$ for a regret; and 16 starting points make one episode.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{eimer2021dacbench,
          title={{DACBench}: A Benchmark Library for Dynamic Algorithm Configuration},
          author={Eimer, Theresa and Biedenkapp, Andr{\'e} and Reimer, Maximilian and Adriaensen, Steven
                  and Hutter, Frank and Lindauer, Marius},
          booktitle={IJCAI}, year={2021}
        }
        ```

    **Arguments:**

    - `horizon`: the number of steps.
    - `high`: the largest coefficient.

    **Raises:**

    - `ValueError`: if `horizon` is below 1.
    """

    horizon: int = eqx.field(static=True, default=10)
    high: float = eqx.field(static=True, default=2.0)

    def __check_init__(self) -> None:
        POSITIVE.check(high=self.high)
        check_counts(horizon=self.horizon)

    @property
    def space(self) -> Box:
        """Logarithms to base 10 of rate and momentum."""
        return Box(2, -10.0, 0.0)

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return 4

    def reset(self, *, key: PRNGKeyArray) -> tuple[_ToyState, Float[Array, " features"]]:
        u, v, w = jr.uniform(key, (3,))
        # The constant does not matter for the regret. A curvature of zero has no minimum.
        curvature = jnp.maximum(self.high * u, 1e-3)
        place = -self.high * (2 * v - 1) / (2 * curvature)
        zero = jnp.zeros(())
        state = _ToyState(curvature, place, 10 * w - 5, zero, zero, -10 * jnp.ones(2), jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(self, state: _ToyState, action: Float[Array, " two"], *, key: PRNGKeyArray) -> tuple[_ToyState, Timestep]:
        del key
        rate, momentum = 10.0**action
        velocity = momentum * state.velocity + rate * state.gradient
        x = state.x - velocity
        gradient = 2 * state.curvature * (x - state.place)
        regret = state.curvature * (x - state.place) ** 2
        new = _ToyState(state.curvature, state.place, x, velocity, gradient, action, state.clock + 1)
        done = new.clock >= self.horizon
        reward = -jnp.log10(jnp.maximum(regret, 1e-12))
        return new, Timestep(self._observe(new), reward, done, jnp.zeros_like(done))

    def _observe(self, state: _ToyState) -> Float[Array, " features"]:
        left = (self.horizon - state.clock).astype(state.x.dtype) / self.horizon
        return jnp.concatenate([jnp.stack([left, jnp.arcsinh(state.gradient)]), state.action / 10])
