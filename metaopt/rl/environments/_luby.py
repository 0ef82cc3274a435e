"""Play the sequence of Luby."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core.arrays._numbers import check_counts
from .._spaces import Discrete
from ..base import AbstractEnvironment, Timestep


_HISTORY = 5


def luby(count: int) -> Int[np.ndarray, " count"]:
    """The first terms of the sequence 1, 1, 2, 1, 1, 2, 4, ..., as logarithms to base 2."""
    terms: list[int] = []
    power = 0
    while len(terms) < count:
        terms = [*terms, *terms, power]
        power += 1
    return np.asarray(terms[:count])


class _LubyState(eqx.Module):
    start: Float[Array, ""]
    drift: Float[Array, ""]
    history: Float[Array, " history"]
    clock: Int[Array, ""]


class Luby(AbstractEnvironment[_LubyState]):
    r"""Play the sequence of Luby, from some place on, and perhaps a little slower or faster.

    The action at step $t = 1, \dots, T$ is a power of two. It is right, with reward 0, if it is the term of

    $$1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8, \dots$$

    at place $\max(1, \mathrm{round}(t + s + e t))$; otherwise the reward is -1. The start $s$ is drawn from a
    normal distribution with mean 8 and deviation 16, truncated to $[0, 64]$, and the drift $e$ from one with deviation
    0.15, truncated to $\pm 0.505$, as for the instances of DACBench. Its observation is of the last five actions
    (-1 where there is none) and of how many there were; it does not tell the instance, which can then only be guessed.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{biedenkapp2020dynamic,
          title={Dynamic Algorithm Configuration: Foundation of a New Meta-Algorithmic Framework},
          author={Biedenkapp, Andr{\'e} and Bozkurt, H. Furkan and Eimer, Theresa and Hutter, Frank
                  and Lindauer, Marius},
          booktitle={ECAI}, year={2020}
        }
        ```

    **Arguments:**

    - `horizon`: $T$; 8, 16 or 32 in the paper.
    - `vary`: whether instances are drawn; if not, $s = e = 0$, as in the paper.
    - `observe_instance`: whether $s$ and $e$ are observed, too.

    **Raises:**

    - `ValueError`: if `horizon` is below 1.
    """

    horizon: int = eqx.field(static=True, default=8)
    vary: bool = eqx.field(static=True, default=False)
    observe_instance: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        check_counts(horizon=self.horizon)

    @property
    def space(self) -> Discrete:
        """Powers of two up to 64, or what occurs if the sequence is longer."""
        return Discrete(max(7, int(luby(self._longest).max()) + 1))

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return _HISTORY + 1 + 2 * self.observe_instance

    @property
    def _longest(self) -> int:
        return 65 + 2 * self.horizon

    def reset(self, *, key: PRNGKeyArray) -> tuple[_LubyState, Float[Array, " features"]]:
        start, drift = jnp.zeros(2)
        if self.vary:
            first, second = jr.split(key)
            start = 8 + 16 * jr.truncated_normal(first, -0.5, 3.5)
            drift = 0.15 * jr.truncated_normal(second, -3.3666667, 3.3666667)
        state = _LubyState(start, drift, -jnp.ones(_HISTORY), jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def target(self, state: _LubyState) -> Int[Array, ""]:
        """The action that is right now."""
        t = (state.clock + 1).astype(state.start.dtype)
        place = jnp.maximum(jnp.round(t + state.start + state.drift * t), 1).astype(jnp.int32)
        return jnp.asarray(luby(self._longest), jnp.int32)[jnp.minimum(place, self._longest) - 1]

    def step(self, state: _LubyState, action: Int[Array, ""], *, key: PRNGKeyArray) -> tuple[_LubyState, Timestep]:
        del key
        reward = jnp.where(action == self.target(state), 0.0, -1.0)
        played = action.astype(state.history.dtype)
        shifted = jnp.concatenate([state.history[1:], played[None]])
        filled = jnp.where(jnp.arange(_HISTORY) == state.clock, played, state.history)
        history = jnp.where(state.clock < _HISTORY, filled, shifted)
        new = _LubyState(state.start, state.drift, history, state.clock + 1)
        done = new.clock >= self.horizon
        return new, Timestep(self._observe(new), reward, done, jnp.zeros_like(done))

    def _observe(self, state: _LubyState) -> Float[Array, " features"]:
        clock = (state.clock - 1).astype(state.start.dtype) / self.horizon
        parts = [state.history / 4, clock[None]]
        if self.observe_instance:
            parts += [state.start[None] / 32, state.drift[None] / 0.15]
        return jnp.concatenate(parts)
