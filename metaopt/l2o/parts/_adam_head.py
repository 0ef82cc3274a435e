"""A head that is Adam until the network and the controller say otherwise."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core._algorithm import ASSUMED_HORIZON
from ..._core.arrays._numbers import COUNT, POSITIVE, number
from ...backend import Layer
from ..base import AbstractHead
from ._clocks import HORIZON_FEATURES, HorizonClock
from ._common import complement, correction, default_key, log_complement, positive_log


SHAPE_FEATURES = 3
OUTPUTS = 5


class _State(NamedTuple):
    momenta: Float[Array, "3 *p"]
    second: Float[Array, "*p"]


class _Operands(eqx.Module):
    fresh: list[Float[Array, ""]]
    fresh_second: Float[Array, ""]
    momentum_corrections: list[Float[Array, ""]]
    second_correction: Float[Array, ""]
    param_scale: Float[Array, ""]
    log_rate: Float[Array, ""]
    mixing: list[Float[Array, ""]]


class _Seen(eqx.Module):
    grad: Float[Array, "*p"]
    state: _State
    operands: _Operands


class AdamHead(AbstractHead):
    r"""Adam with a planned rate, from which a network and a controller depart.

    With bias-corrected averages $\hat m^f, \hat m, \hat m^s$ of the gradient (fast, main, slow) and $\hat v$ of its
    square, everything divided by $\sqrt{\hat v}$,

    $$\theta \leftarrow \theta - e^{\rho + \log a(t / H) + c_0 + o_0} \left(\hat m + (c_1 + o_1) \hat m^f +
      (c_2 + o_2) (\hat m^s - \hat m) + (c_3 + o_3) (g - \hat m) +
      c_4 \frac{\theta}{\mathrm{rms}(\theta)} + o_4\right)$$

    The rate $e^\rho$ follows the schedule $a$, a half cosine that ends at 0.001 or the constant 1. The controller
    $c = C_2 \tanh(C_1 s)$ sees, per tensor, features $s$ of the time, of the size and of the number of inputs; the
    network's outputs $o$ belong to one parameter each. Both start near zero, so an untrained rule is Adam.

    The learned leaves are $\rho$, $\log(1 - \beta)$ of all decays, and the controller's weights.
    """

    log_rate: Float[Array, ""]
    momentum_decays: Float[Array, " 3"]
    second_decay: Float[Array, ""]
    controller: tuple[Layer, Layer]
    clock: HorizonClock
    schedule: Literal["cosine", "constant"] = eqx.field(static=True)

    def __init__(
        self,
        rate: float = 0.05,
        *,
        momentum_decays: Sequence[float] = (0.5, 0.9, 0.99),
        second_decay: float = 0.99,
        hidden_size: int = 8,
        schedule: Literal["cosine", "constant"] = "cosine",
        horizon: int = ASSUMED_HORIZON,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `rate`: the initial rate of an untrained rule.
        - `momentum_decays`: fast, main and slow; the main one is Adam's $\\beta_1$.
        - `second_decay`: Adam's $\\beta_2$.
        - `hidden_size`: of the controller.
        - `schedule`: what the rate does when nothing is learned: a half cosine over the horizon, or nothing.
        - `horizon`: how many steps there will be; the drivers set it.
        - `key`: draws the controller's weights; the same ones each time if it is left out.
        """
        POSITIVE.check(rate=rate)
        COUNT.check(hidden_size=hidden_size)
        if len(momentum_decays) != 3:
            raise ValueError(
                f"`momentum_decays` are a fast, a main and a slow one, but {len(momentum_decays)} were given."
            )
        first, second = jr.split(default_key(key))
        self.log_rate = positive_log(rate, "rate")
        self.momentum_decays = log_complement(momentum_decays, "momentum_decays")
        self.second_decay = log_complement(second_decay, "second_decay")
        self.controller = (
            Layer.create(hidden_size, HORIZON_FEATURES + SHAPE_FEATURES, key=first),
            Layer.create(OUTPUTS, hidden_size, scale=self.output_scale, key=second),
        )
        self.clock = HorizonClock(horizon)
        self.schedule = schedule

    def __check_init__(self) -> None:
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"`schedule` must be `cosine` or `constant`, but `{self.schedule}` was given.")

    @property
    def outputs(self) -> int:
        return OUTPUTS

    @property
    def signal_count(self) -> int:
        return 4

    @property
    def output_scale(self) -> float:
        return 0.01

    def init(self, param: Float[Array, "*p"]) -> PyTree:
        return _State(jnp.zeros((3, *param.shape), param.dtype), jnp.zeros_like(param))

    def prepare(self, param: Float[Array, "*p"], step: Int[Array, ""]) -> PyTree[Float[Array, "..."]]:
        fresh, fresh_second = complement(self.momentum_decays, param), complement(self.second_decay, param)
        control = self._control(param, step)
        return _Operands(
            list(fresh),
            fresh_second,
            list(correction(fresh, step)),
            correction(fresh_second, step),
            jax.lax.rsqrt(_mean(jnp.square(param)) + 1e-4),
            self.log_rate.astype(param.dtype) + self._log_schedule(step, param.dtype) + control[0],
            list(control[1:]),
        )

    @staticmethod
    def observe(
        state: PyTree, operands: PyTree[Float[Array, "..."]], grad: Float[Array, "*p"]
    ) -> tuple[PyTree, PyTree[Float[Array, "..."]]]:
        momenta = [old + fresh * (grad - old) for fresh, old in zip(operands.fresh, state.momenta, strict=True)]
        second = state.second + operands.fresh_second * (jnp.square(grad) - state.second)
        new = _State(jnp.stack(momenta), second)
        return new, _Seen(grad, new, operands)

    def _log_schedule(self, step: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
        if self.schedule == "constant":
            return jnp.zeros((), dtype)
        return self.clock.log_cosine(step, dtype)

    def _control(self, param: Float[Array, "*p"], step: Int[Array, ""]) -> Float[Array, " outputs"]:
        first, second = self.controller
        shape = jnp.asarray(shape_features(param.shape), param.dtype)
        inputs = jnp.concatenate([self.clock(step, param.dtype), shape])[:, None]
        hidden = jnp.tanh(first.weight.astype(param.dtype) @ inputs + first.bias.astype(param.dtype)[:, None])
        return (second.weight.astype(param.dtype) @ hidden + second.bias.astype(param.dtype)[:, None])[:, 0]

    @staticmethod
    def signals(seen: PyTree[Float[Array, "..."]]) -> list[Float[Array, "..."]]:
        """The gradient and its three averages, divided by the root of the second moment."""
        operands, state = seen.operands, seen.state
        root = jax.lax.rsqrt(state.second * operands.second_correction + 1e-12)
        scales = operands.momentum_corrections
        return [seen.grad * root, *[m * (scale * root) for m, scale in zip(state.momenta, scales, strict=True)]]

    @staticmethod
    def finish(
        seen: PyTree[Float[Array, "..."]], param: Float[Array, "*p"], outputs: Sequence[Any]
    ) -> Float[Array, "*p"]:
        grad, fast, main, slow = AdamHead.signals(seen)
        operands = seen.operands
        log_rate, o_fast, o_slow, o_grad, shift = outputs
        c_fast, c_slow, c_grad, c_param = operands.mixing
        direction = (
            main
            + (c_fast + o_fast) * fast
            + (c_slow + o_slow) * (slow - main)
            + (c_grad + o_grad) * (grad - main)
            + c_param * operands.param_scale * param
            + shift
        )
        return param - jnp.exp(jnp.clip(operands.log_rate + log_rate, -14, 4)) * direction


def shape_features(shape: tuple[int, ...]) -> list[float]:
    """What a controller is told of a tensor: whether it is a matrix, its size, and the number of its inputs."""
    size = max(math.prod(shape), 1)
    inputs = max(math.prod(shape[:-1]), 1)
    return [float(len(shape) >= 2) - 0.5, math.log(size) / 5 - 1, math.log(inputs) / 4]


def _mean(x: Float[Array, "*p"]) -> Float[Array, ""]:
    return jnp.mean(x) if x.size else number(0).astype(x.dtype)
