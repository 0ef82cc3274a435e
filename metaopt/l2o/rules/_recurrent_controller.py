"""Adam and orthogonalized momentum that a recurrent controller steers per tensor."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm, AbstractLossReader
from ..._core._algorithm import ASSUMED_HORIZON
from ..._core.arrays._numbers import COUNT, POSITIVE, REAL, WHOLE, number
from ..parts._adam_head import SHAPE_FEATURES, shape_features
from ..parts._clocks import HORIZON_FEATURES, HorizonClock
from ..parts._common import (
    CellState,
    average,
    complement,
    correction,
    default_key,
    finish,
    init_tensors,
    log_complement,
    match_real,
    moving,
    positive_log,
    widen,
)
from ..parts._losses import LOSS_FEATURES, LossMemory
from ..parts._orthogonal import unit_orthogonal
from ..parts._recurrent import Recurrent


P = TypeVar("P")


_TENSOR_FEATURES = 8
_CONTROLS = 7
# A rule that orthogonalizes makes steps of this root mean square, near that of Adam's.
_ORTHOGONAL_SIZE = 0.4


class _Memory(NamedTuple):
    momenta: Float[Array, "3 *p"]
    second: Float[Array, "*p"]
    hidden: Float[Array, "2 units"]
    rate: Float[Array, ""]


class _State(NamedTuple):
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    tensors: PyTree
    started: PyTree
    losses: LossMemory


class _Directions(eqx.Module):
    """What a tensor may step along: the gradient and its averages, divided by the root of the second moment."""

    grad: Float[Array, "*p"]
    fast: Float[Array, "*p"]
    main: Float[Array, "*p"]
    slow: Float[Array, "*p"]


class RecurrentController(AbstractAlgorithm[_State, Any, Any], AbstractLossReader):
    r"""A recurrent network per tensor that steers Adam and orthogonalized momentum.

    With bias-corrected averages $\hat m^f, \hat m, \hat m^s$ of the gradient (fast, main, slow) and $\hat v$ of its
    square, everything divided by $\sqrt{\hat v}$, a tensor steps by

    $$d = \hat m + c_1 \hat m^f + c_2 (\hat m^s - \hat m) + c_3 (g - \hat m), \qquad
      u = (1 - w) \, d + 0.4 \, w \, \mathrm{ortho}(d), \quad w = \sigma(\omega + c_4)$$

    $$\theta \leftarrow \theta - e^{\rho + \log a(t / H) + c_0 + r_t}
      \left(u + c_5 \frac{\theta}{\mathrm{rms}(\theta)}\right), \qquad r_{t + 1} = r_t + \tfrac1{10} \tanh c_6$$

    where $\mathrm{ortho}$ moves the singular values of a matrix near 1 by Newton-Schulz iterations and scales the
    result to a root mean square of 1 (all axes but the last are taken together), $w = 0$ for tensors of less than two
    axes, and $a$ rises linearly over the first part of the steps and then falls as a half cosine that ends at 0.001.
    The controls $c$ come from one LSTM with a state per tensor. It sees the time, the shape, the sizes of $\theta$, of
    the gradient and of its averages relative to $\sqrt{\hat v}$, the cosines between them, the mean of all this over
    the tensors, and how the losses fall. None of that changes when the loss is scaled. All controls start near zero.

    The learned leaves are $\rho$, $\omega$, $\log(1 - \beta)$ of all decays, and the LSTM's weights.

    ??? cite "Reference"

        A recurrent network per tensor, and orthogonalized steps:

        ```bibtex
        @inproceedings{wichrowska2017learned,
          title={Learned Optimizers that Scale and Generalize},
          author={Wichrowska, Olga and Maheswaranathan, Niru and Hoffman, Matthew W. and Colmenarejo, Sergio Gomez and
                  Denil, Misha and de Freitas, Nando and Sohl-Dickstein, Jascha},
          booktitle={ICML}, year={2017}
        }
        @misc{jordan2024muon,
          title={Muon: An optimizer for hidden layers in neural networks},
          author={Jordan, Keller and Jin, Yuchen and Boza, Vlado and You, Jiacheng and Cesista, Franz and
                  Newhouse, Laker and Bernstein, Jeremy}, year={2024}
        }
        ```
    """

    network: Recurrent
    clock: HorizonClock
    log_rate: Float[Array, ""]
    orthogonality: Float[Array, ""]
    momentum_decays: Float[Array, " 3"]
    second_decay: Float[Array, ""]
    iterations: int = eqx.field(static=True)
    warmup: float = eqx.field(static=True)

    def __init__(
        self,
        learning_rate: float = 0.05,
        hidden_size: int = 16,
        *,
        momentum_decays: Sequence[float] = (0.5, 0.9, 0.97),
        second_decay: float = 0.99,
        orthogonality: float = 3.0,
        iterations: int = 5,
        warmup: float = 0.03,
        horizon: int = ASSUMED_HORIZON,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `learning_rate`: the rate of an untrained rule.
        - `hidden_size`: units of the LSTM.
        - `momentum_decays`: fast, main and slow; the main one is Adam's $\\beta_1$.
        - `second_decay`: Adam's $\\beta_2$.
        - `orthogonality`: $\\omega$; a large negative number gives Adam.
        - `iterations`: of Newton and Schulz; with 0 no tensor is orthogonalized.
        - `warmup`: over which part of the steps the rate rises; with 0 it starts at its highest.
        - `horizon`: how many steps there will be; the drivers set it.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: for a rate or a size that is not positive, a decay or `warmup` outside of $[0, 1)$, or momentum
            decays that are not three.
        """
        REAL.check(orthogonality=orthogonality)
        COUNT.check(hidden_size=hidden_size)
        POSITIVE.check(learning_rate=learning_rate)
        WHOLE.check(iterations=iterations)
        if len(momentum_decays) != 3:
            raise ValueError(
                f"`momentum_decays` are a fast, a main and a slow one, but {len(momentum_decays)} were given."
            )
        if iterations < 0:
            raise ValueError(f"`iterations` must be at least 0, but {iterations} was given.")
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must be at least 0 and less than 1, but {warmup} was given.")
        shared = HORIZON_FEATURES + LOSS_FEATURES + _TENSOR_FEATURES
        self.network = Recurrent.create(
            SHAPE_FEATURES + _TENSOR_FEATURES + shared,
            hidden_size,
            1,
            _CONTROLS,
            output_scale=0.01,
            key=default_key(key),
        )
        self.clock = HorizonClock(horizon)
        self.log_rate = positive_log(learning_rate, "learning_rate")
        self.orthogonality = number(orthogonality)
        self.momentum_decays = log_complement(momentum_decays, "momentum_decays")
        self.second_decay = log_complement(second_decay, "second_decay")
        self.iterations, self.warmup = iterations, warmup

    @property
    def without_value(self) -> str:
        return "sees nothing of how the losses go"

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _State:
        del key
        units = self.network.readout.weight.shape[1]

        def one(param: Float[Array, "*p"]) -> _Memory:
            momenta, second = jnp.zeros((3, *param.shape), param.dtype), jnp.zeros_like(param)
            return _Memory(momenta, second, jnp.zeros((2, units), param.dtype), jnp.zeros((), param.dtype))

        start = init_tensors(one, params)
        return _State(start.count, start.tensors, start.started, LossMemory.create())

    def step(self, state: _State, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[_State, P]:
        matched = match_real(params, grads)
        losses = state.losses.see(value)
        if not matched.leaves:
            return _State(state.count + 1, state.tensors, state.started, losses), params
        memories = matched.pick(state.tensors)
        pairs = [widen(leaf) for leaf in matched.leaves]
        averages = [self._average(old, grad) for old, (_, grad) in zip(memories, pairs, strict=True)]
        directions = [
            self._directions(momenta, second, grad, state.count)
            for (momenta, second), (_, grad) in zip(averages, pairs, strict=True)
        ]
        controls, hidden = self._control(state.count, losses, memories, directions, [param for param, _ in pairs])
        tensors, new = [], []
        for i, (old, (momenta, second), (param, _), seen) in enumerate(
            zip(memories, averages, pairs, directions, strict=True)
        ):
            control, units = controls[:, i].astype(param.dtype), hidden[:, :, i].astype(param.dtype)
            tensors.append(_Memory(momenta, second, units, old.rate + 0.1 * jnp.tanh(control[6])))
            new.append(self._move(param, seen, control, old.rate, state.count))
        cells = CellState(state.count, state.tensors, state.started)
        cells, params = finish(cells, matched, moving(cells, matched), tensors, new)
        return _State(cells.count, cells.tensors, cells.started, losses), params

    def _average(self, old: _Memory, grad: Float[Array, "*p"]) -> tuple[Float[Array, "3 *p"], Float[Array, "*p"]]:
        momenta = average(complement(self.momentum_decays, grad), old.momenta, grad)
        return momenta, old.second + complement(self.second_decay, grad) * (jnp.square(grad) - old.second)

    def _directions(
        self, momenta: Float[Array, "3 *p"], second: Float[Array, "*p"], grad: Float[Array, "*p"], step: Int[Array, ""]
    ) -> _Directions:
        scales = correction(complement(self.momentum_decays, grad), step)
        # Relative to the tensor, so that the scale of the loss does not matter.
        unbiased = second * correction(complement(self.second_decay, grad), step)
        root = jax.lax.rsqrt(unbiased + 1e-8 * _mean(unbiased) + 1e-30)
        fast, main, slow = [m * (scale * root) for m, scale in zip(momenta, scales, strict=True)]
        return _Directions(grad * root, fast, main, slow)

    def _control(
        self,
        step: Int[Array, ""],
        losses: LossMemory,
        memories: Sequence[_Memory],
        directions: Sequence[_Directions],
        params: Sequence[Float[Array, "..."]],
    ) -> tuple[Float[Array, "controls n"], Float[Array, "2 units n"]]:
        dtype = self.network.readout.bias.dtype
        seen = jnp.stack([_features(d, p).astype(dtype) for d, p in zip(directions, params, strict=True)], axis=1)
        shapes = jnp.asarray([shape_features(p.shape) for p in params], dtype).T
        context = [self.clock(step, dtype), losses.features().astype(dtype), jnp.mean(seen, axis=1)]
        hidden = jnp.stack([m.hidden.astype(dtype) for m in memories], axis=2)
        new, controls = self.network(hidden[None], jnp.concatenate([shapes, seen]), jnp.concatenate(context))
        return controls, new[0]

    def _move(
        self,
        param: Float[Array, "*p"],
        seen: _Directions,
        control: Float[Array, " controls"],
        rate: Float[Array, ""],
        step: Int[Array, ""],
    ) -> Float[Array, "*p"]:
        rated, fast, slow, grad, mixing, decay, _ = control
        main = seen.main
        direction = main + fast * seen.fast + slow * (seen.slow - main) + grad * (seen.grad - main)
        if param.ndim >= 2 and self.iterations and param.size:
            weight = jax.nn.sigmoid(self.orthogonality.astype(param.dtype) + mixing)
            turned = _ORTHOGONAL_SIZE * unit_orthogonal(direction, self.iterations)
            direction = direction + weight * (turned - direction)
        schedule = self.clock.log_cosine(step, param.dtype) + self.clock.log_warmup(step, self.warmup, param.dtype)
        log_rate = jnp.clip(self.log_rate.astype(param.dtype) + schedule + rated + rate, -14, 4)
        scaled = param * jax.lax.rsqrt(_mean(jnp.square(param)) + 1e-4)
        return param - jnp.exp(log_rate) * (direction + decay * scaled)


def _features(x: _Directions, param: Float[Array, "*p"]) -> Float[Array, " features"]:
    """What the controller is told of one tensor."""
    square = [_mean(jnp.square(d)) for d in (x.grad, x.fast, x.main, x.slow)]
    sizes = [jnp.log(s + 1e-6) / 4 for s in square]

    def cosine(a: Float[Array, "*p"], b: Float[Array, "*p"], norms: Float[Array, ""]) -> Float[Array, ""]:
        return _mean(a * b) * jax.lax.rsqrt(norms + 1e-12)

    cosines = [
        cosine(x.grad, x.main, square[0] * square[2]),
        cosine(x.grad, x.slow, square[0] * square[3]),
        cosine(x.fast, x.slow, square[1] * square[3]),
    ]
    return jnp.stack([*sizes, *cosines, jnp.log(_mean(jnp.square(param)) + 1e-6) / 8])


def _mean(x: Float[Array, "*p"]) -> Float[Array, ""]:
    return jnp.sum(x) / max(math.prod(x.shape), 1)
