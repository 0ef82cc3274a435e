"""Trace functions with actions: the white-box benchmark of dynamic algorithm configuration."""

from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core.arrays._numbers import REAL, WHOLE, check_counts
from .._spaces import Box, Discrete
from ..base import AbstractEnvironment, Timestep


Kind = Literal["sigmoid", "quadratic", "linear", "constant", "logarithmic"]
_KINDS = get_args(Kind)


class _TraceState(eqx.Module):
    """For each dimension the kind of its function and two parameters, and what was played last."""

    kind: Int[Array, " dimensions"]
    a: Float[Array, " dimensions"]
    b: Float[Array, " dimensions"]
    last: Float[Array, " dimensions"]
    clock: Int[Array, ""]


class FunctionApproximation(AbstractEnvironment[_TraceState]):
    r"""Play, in every dimension, the value of a function of time, which is known by its parameters.

    At step $t = 1, \dots, T$ the action is a vector $x$ of values in $[0, 1]$, and the reward

    $$r_t = \prod_i (1 - |f_i(t) - x_i|), \qquad \text{or} \qquad r_t = -\sum_i w_i |f_i(t) - x_i|$$

    where the product is clipped to $[0, 1]$. The functions are

    $$\frac{1}{1 + e^{-a (t - b)}}, \qquad \frac a2 (t - b)^2, \qquad a t + b, \qquad a, \qquad a \log (t - b)$$

    (the last at arguments of at least 0.001). With $k$ values per dimension, the actions are all combinations of
    $0, \frac{1}{k - 1}, \dots, 1$, counted with the last dimension fastest; with none they are vectors. The observation
    holds the remaining share of the budget, for each dimension $a / 2$, $b / T$ and, if there are several kinds, that;
    and what was played last, -1 at the start.

    Returns are not those of DACBench 0.5.6, which has another reward,
    $\operatorname{mean}_i e^{-w_i |f_i(t) - x_i|}$, rescaled to a range that can be chosen, observes the remaining
    steps, $a$ and $b$ as they are, and draws from files of instances. In that of one sigmoid, $a$ has mean 3.9 and
    deviation 2.0, and $b$ 1.8 and 3.9. Give these as `instances` to trace the same functions.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{biedenkapp2020dynamic,
          title={Dynamic Algorithm Configuration: Foundation of a New Meta-Algorithmic Framework},
          author={Biedenkapp, Andr{\'e} and Bozkurt, H. Furkan and Eimer, Theresa and Hutter, Frank
                  and Lindauer, Marius},
          booktitle={ECAI}, year={2020}
        }
        @inproceedings{eimer2021dacbench,
          title={{DACBench}: A Benchmark Library for Dynamic Algorithm Configuration},
          author={Eimer, Theresa and Biedenkapp, Andr{\'e} and Reimer, Maximilian and Adriaensen, Steven
                  and Hutter, Frank and Lindauer, Marius},
          booktitle={IJCAI}, year={2021}
        }
        ```
    """

    kinds: tuple[Kind, ...] = eqx.field(static=True)
    dimensions: int = eqx.field(static=True)
    values: int = eqx.field(static=True)
    horizon: int = eqx.field(static=True)
    reward: Literal["product", "sum"] = eqx.field(static=True)
    slope: float = eqx.field(static=True)
    importances: Float[Array, " dimensions"]
    instances: Float[Array, "instances dimensions 3"] | None

    def __init__(
        self,
        dimensions: int = 1,
        values: int = 3,
        kinds: tuple[Kind, ...] = _KINDS,
        horizon: int = 10,
        reward: Literal["product", "sum"] = "product",
        slope: float = 2.0,
        importances: Float[Array, " dimensions"] | None = None,
        instances: Float[Array, "instances dimensions 3"] | None = None,
    ):
        r"""**Arguments:**

        - `dimensions`: how many functions are traced at once.
        - `values`: $k$, how many values there are to play in each; 0 for any.
        - `kinds`: which functions are drawn.
        - `horizon`: $T$.
        - `reward`: which of the two.
        - `slope`: the largest slope of a sigmoid.
        - `importances`: $w$; by default all $1 / d$.
        - `instances`: a set to draw from instead: for each dimension the number of its kind (in the order above), $a$
            and $b$.

        **Raises:**

        - `ValueError`: if a count is below 1, `values` is 1 or negative, or a kind is unknown.
        """
        REAL.check(slope=slope)
        WHOLE.check(values=values)
        check_counts(dimensions=dimensions, horizon=horizon, kinds=len(kinds))
        if values < 0 or values == 1:
            raise ValueError(f"`values` must be at least 2, or 0 for continuous actions, but {values} was given.")
        if unknown := set(kinds) - set(_KINDS):
            raise ValueError(f"There is no function {sorted(unknown)[0]!r}; there are {', '.join(_KINDS)}.")
        self.dimensions, self.values, self.kinds, self.horizon = dimensions, values, tuple(kinds), horizon
        self.reward, self.slope, self.instances = reward, slope, instances
        self.importances = jnp.full(dimensions, 1 / dimensions) if importances is None else importances

    @property
    def space(self) -> Discrete | Box:
        """All combinations of values, or vectors."""
        return Discrete(self.values**self.dimensions) if self.values else Box(self.dimensions, 0.0, 1.0)

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return 1 + self.dimensions * (3 + (len(self.kinds) > 1))

    def reset(self, *, key: PRNGKeyArray) -> tuple[_TraceState, Float[Array, " features"]]:
        kind, a, b = self._draw(key)
        state = _TraceState(kind, a, b, -jnp.ones(self.dimensions), jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def _draw(self, key: PRNGKeyArray) -> tuple[Int[Array, " d"], Float[Array, " d"], Float[Array, " d"]]:
        if self.instances is not None:
            kind, a, b = self.instances[jr.randint(key, (), 0, self.instances.shape[0])].T
            return kind.astype(jnp.int32), a, b
        d, end = self.dimensions, self.horizon
        # Drawn at once: each draw is a program that takes time to compile.
        u, v, w = jr.uniform(key, (3, d))
        shift = end / 2 + end / 4 * ndtri(jnp.clip(w, 1e-7, 1 - 1e-7))
        signed = (2 * u - 1) * self.slope
        if self.kinds == ("sigmoid",):
            return jnp.zeros(d, jnp.int32), signed, shift
        numbers = jnp.asarray([_KINDS.index(kind) for kind in self.kinds], jnp.int32)
        kind = numbers[jr.randint(jr.fold_in(key, 1), (d,), 0, len(self.kinds))]
        # For all but sigmoids, parameters that keep the function between 0 and 1.
        a = jnp.stack([signed, 2 * u / end**2, (u - v) / end, u, u / jnp.log(end + 1)])
        b = jnp.stack([shift, v * end, v, v, -v])
        return kind, jnp.take_along_axis(a, kind[None], 0)[0], jnp.take_along_axis(b, kind[None], 0)[0]

    def targets(self, state: _TraceState) -> Float[Array, " dimensions"]:
        """The values of the functions at the step that comes next: what would be best to play."""
        t = (state.clock + 1).astype(state.a.dtype)
        a, b = state.a, state.b
        sigmoid = 1 / (1 + jnp.exp(-a * (t - b)))
        if self.kinds == ("sigmoid",) and self.instances is None:
            return sigmoid
        logarithm = a * jnp.log(jnp.maximum(t - b, 1e-3))
        all_of_them = jnp.stack([sigmoid, a / 2 * (t - b) ** 2, a * t + b, a, logarithm])
        return jnp.take_along_axis(all_of_them, state.kind[None], 0)[0]

    def played(self, action: Array) -> Float[Array, "*batch dimensions"]:
        """The values in each dimension that an action stands for."""
        if not self.values:
            return action
        powers = self.values ** jnp.arange(self.dimensions - 1, -1, -1)
        digits = (action[..., None] // powers.reshape((1,) * action.ndim + (-1,))) % self.values
        return digits.astype(jnp.result_type(float)) / (self.values - 1)

    def step(self, state: _TraceState, action: Array, *, key: PRNGKeyArray) -> tuple[_TraceState, Timestep]:
        del key
        played = self.played(action)
        reward = self.judge(self.targets(state), played)
        new = _TraceState(state.kind, state.a, state.b, played, state.clock + 1)
        # The budget is observed, so nothing is to be expected behind its end.
        done = new.clock >= self.horizon
        return new, Timestep(self._observe(new), reward, done, jnp.zeros_like(done))

    def judge(self, targets: Float[Array, " dimensions"], played: Float[Array, " dimensions"]) -> Float[Array, ""]:
        """The reward for playing these values."""
        distance = jnp.abs(targets - played)
        if self.reward == "sum":
            return -jnp.sum(self.importances * distance)
        return jnp.prod(jnp.clip(1 - distance, 0, 1))

    def _observe(self, state: _TraceState) -> Float[Array, " features"]:
        end = self.horizon
        left = (end - state.clock).astype(state.a.dtype)[None] / end
        parts = [left, state.a / 2, state.b / end]
        if len(self.kinds) > 1:
            parts.append(state.kind.astype(state.a.dtype) / len(_KINDS))
        return jnp.concatenate([*parts, state.last])


def sigmoid(dimensions: int = 1, values: int = 3, horizon: int = 10, slope: float = 2.0) -> FunctionApproximation:
    r"""Trace sigmoids with shifts drawn from $N(T / 2, T / 4)$ and uniform slopes, as in the paper.

    DACBench 0.5.6 has another reward and other instances: see
    [`FunctionApproximation`][metaopt.rl.FunctionApproximation].

    **Arguments:**

    - `dimensions`: how many; 1, 2, 3 and 5 in the paper.
    - `values`: how many values there are to play in each.
    - `horizon`: $T$.
    - `slope`: the largest slope.
    """
    return FunctionApproximation(dimensions, values, ("sigmoid",), horizon, "product", slope)
