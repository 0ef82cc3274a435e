"""The network per parameter of VeLO and Celo: what it sees, and how its outputs become a step."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._core.arrays._numbers import number
from ...backend import Feature, Pointwise, Tensor
from ._adafactor import Averager, Averages, Elements, Groups, Reading, feature_groups, observe
from ._common import HeldOperands, held


OUTPUTS = 2


class _Operands(eqx.Module):
    reading: Reading
    scale: Float[Array, ""]
    magnitude_scale: Float[Array, ""]


class _Seen(eqx.Module):
    param: Float[Array, "*p"]
    elements: Elements
    operands: _Operands


def inputs(pairs: int) -> int:
    """How many features the network sees."""
    return 6 + 8 * pairs


def ordered(groups: Groups, x: Reading) -> list[Feature]:
    """Features in the order of published weights; the factored ones are last."""
    return [
        groups.grad,
        Feature(jnp.clip(x.grad, -0.1, 0.1)),
        groups.param,
        *groups.momenta,
        groups.second,
        *groups.normalized,
        groups.root,
        *groups.scaled,
        Feature(x.grad * groups.root.value),
        *groups.factored,
    ]


def _observe(param: Any, state: Elements, x: _Operands) -> tuple[Elements, _Seen]:
    new = observe(state, x.reading)
    return new, _Seen(param, new, x)


def _features(x: _Seen) -> list[Feature]:
    """The table of features: what the network sees of a parameter, each divided by its root mean square."""

    # The bound keeps derivatives finite where gradients are zero.
    def factor(second: Array) -> Array:
        return jax.lax.rsqrt(jnp.maximum(second, 1e-24))

    reading = x.operands.reading
    return ordered(feature_groups(x.param, x.elements, reading, vector_factor=factor), reading)


def _finish(x: _Seen, outputs: Sequence[Any]) -> Array:
    direction, magnitude = outputs
    return x.param - x.operands.scale * direction * jnp.exp(x.operands.magnitude_scale * magnitude)


POINTWISE = held(Pointwise(_observe, _features, _finish))


class AdafactorRule(eqx.Module):
    r"""What surrounds the network: decays of the averages, and the scales of its outputs.

    $$\theta \leftarrow \theta - \rho \lambda_d\, \sqrt{\overline{\theta^2} + 10^{-9}}\; d \exp(\lambda_e e)$$
    """

    averager: Averager
    direction_scale: Float[Array, ""] = eqx.field(converter=number)
    magnitude_scale: Float[Array, ""] = eqx.field(converter=number)

    def tensor(
        self,
        param: Float[Array, "*p"],
        grad: Float[Array, "*p"],
        old: Averages,
        rate: Float[Array, ""],
        moves: Bool[Array, ""],
        name: str,
    ) -> tuple[Tensor, Reading]:
        """What [`metaopt.backend.AbstractBackend.network_update`][] is told of a tensor whose steps are scaled by
        `rate`, if it moves at all, and what was read of it."""
        reading = self.averager.read(old, grad)
        mean = jnp.sum(jnp.square(param)) / max(math.prod(param.shape), 1)
        scale = rate.astype(param.dtype) * self.direction_scale.astype(param.dtype) * jnp.sqrt(mean + 1e-9)
        operands = _Operands(reading, scale, self.magnitude_scale.astype(param.dtype))
        return Tensor(param, old.elements, HeldOperands(operands, moves.astype(param.dtype)), name), reading


def clipped(grad: Float[Array, "*p"]) -> Float[Array, "*p"]:
    """A gradient as these rules read it."""
    return jnp.clip(grad, -1000, 1000)
