"""Adam whose hyperparameters an LSTM moves, per tensor."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, DECAY, NONNEGATIVE, POSITIVE, number
from ...backend import Layer
from ..parts._common import CellState, default_key, finish, init_tensors, match_real, moving, widen
from ..parts._recurrent import LSTMLayer


P = TypeVar("P")

FEATURES = 19
# Ranges that the four controlled numbers (rate, both decays, epsilon) are kept in, as tenths of logarithms.
LOWER = tuple(x / 10 for x in (-18.420680743952367, -10.0, -10.0, -25.328436022934503))
UPPER = tuple(x / 10 for x in (6.907755278982137, 0.0, 0.0, 9.210340371976184))


class _Tensor(NamedTuple):
    first: Float[Array, "*p"]
    second: Float[Array, "*p"]
    controls: Float[Array, " 4"]
    memory: Float[Array, "2 hidden"]


def _log_size(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.clip(jnp.log(1e-8 + jnp.abs(x)), -5, 5) / 2


def _features(
    tensor: _Tensor, param: Float[Array, "*p"], grad: Float[Array, "*p"], controls: Float[Array, " 4"]
) -> Float[Array, " features"]:
    """The table of features: what the LSTM sees of a tensor."""
    arrays = {"p": param, "g": grad, "m": tensor.first, "rms": tensor.second}
    mean = {name: jnp.mean(x) for name, x in arrays.items()}
    variance = {name: jnp.mean(jnp.square(x - mean[name])) for name, x in arrays.items()}
    rate, b1, b2, epsilon = jnp.clip(controls.astype(param.dtype), -5, 5) / 5
    table = {
        "beta1": b1,
        "beta2": b2,
        "epsilon": epsilon,
        "is_bias": 1.0 if param.ndim == 1 else -1.0,
        "is_scalar": 1.0 if param.ndim == 0 else -1.0,
        "lr": rate,
        "mean_g_mag": _log_size(mean["g"]),
        "mean_g_sign": jnp.sign(mean["g"]),
        "mean_gabs_mag": _log_size(jnp.mean(jnp.abs(grad))),
        "mean_m_mag": _log_size(mean["m"]),
        "mean_m_sign": jnp.sign(mean["m"]),
        "mean_p_mag": _log_size(mean["p"]),
        "mean_p_sign": jnp.sign(mean["p"]),
        "mean_rms": _log_size(mean["rms"]),
        "mean_sign": jnp.sign(mean["rms"]),
        "var_g": _log_size(variance["g"]),
        "var_m": _log_size(variance["m"]),
        "var_p": _log_size(variance["p"]),
        "var_rms": _log_size(variance["rms"]),
    }
    return jnp.stack([jnp.asarray(x, param.dtype) for x in table.values()])


class NNAdam(AbstractAlgorithm[CellState, Any, Any]):
    r"""Adam whose four hyperparameters are moved by a recurrent network, for each tensor on its own.

    $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
      \theta \leftarrow \theta - \frac{\alpha (1 + \epsilon)}{\epsilon + \sqrt{v + 10^{-10}}} m, \quad
      c \leftarrow \mathrm{clip}(c + \lambda\, \mathrm{LSTM}(s))$$

    with $c = \tfrac{1}{10} (\log \alpha, \log(1 - \beta_1), \log(1 - \beta_2), \log \epsilon)$, and statistics $s$ of
    parameters, gradients, moments and $c$ itself. The factor $1 + \epsilon$ makes the step that of momentum for large
    $\epsilon$. Moments are not bias-corrected. Gradients are clipped to $\pm 1000$.

    The learned leaves are the network's weights, its first memory, $\lambda$ and the first $c$. This is `nn_adam` of
    the `learned_optimization` library, which accompanies the study cited.

    ??? cite "Reference"

        ```bibtex
        @article{metz2022practical,
          title={Practical tradeoffs between memory, compute, and performance in learned optimizers},
          author={Metz, Luke and Freeman, C. Daniel and Harrison, James and Maheswaranathan, Niru and
                  Sohl-Dickstein, Jascha},
          journal={arXiv:2203.11860}, year={2022}
        }
        ```
    """

    network: LSTMLayer
    readout: Layer
    first_memory: Float[Array, "2 hidden"]
    controls: Float[Array, " 4"]
    output_scale: Float[Array, ""]

    def __init__(
        self,
        rate: float = 1e-4,
        b1: float = 0.9,
        b2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        hidden_size: int = 32,
        output_scale: float = 0.01,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `rate`, `b1`, `b2`, `epsilon`: where the hyperparameters start.
        - `hidden_size`: of the network.
        - `output_scale`: $\\lambda$, how fast the network can move them.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
        POSITIVE.check(rate=rate, epsilon=epsilon)
        DECAY.check(b1=b1, b2=b2)
        NONNEGATIVE.check(output_scale=output_scale)
        COUNT.check(hidden_size=hidden_size)
        self.network = LSTMLayer.create(FEATURES, hidden_size, key=default_key(key))
        self.readout = Layer(number([[0.0] * hidden_size] * 4), number([0.0] * 4))
        self.first_memory = number([[0.0] * hidden_size] * 2)
        self.controls = jnp.log(number([rate, 1 - b1, 1 - b2, epsilon])) / 10
        self.output_scale = number(output_scale)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key

        def one(param: Float[Array, "*p"]) -> _Tensor:
            controls, memory = (x.astype(param.dtype) for x in (self.controls, self.first_memory))
            return _Tensor(jnp.zeros_like(param), jnp.zeros_like(param), controls, memory)

        return init_tensors(one, params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        moved, features, new = [], [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            grad = jnp.clip(grad, -1000, 1000)
            rate, fresh_first, fresh_second, epsilon = jnp.exp(10 * _limit(old.controls))
            first = old.first + fresh_first * (grad - old.first)
            second = old.second + fresh_second * (jnp.square(grad) - old.second)
            tensor = _Tensor(first, second, old.controls, old.memory)
            moved.append(tensor)
            features.append(_features(tensor, param, grad, old.controls) if param.size else None)
            new.append(param - rate * (1 + epsilon) / (epsilon + jnp.sqrt(second + 1e-10)) * first)
        return finish(state, matched, moving(state, matched), self._control(moved, features), new)

    def _control(
        self, tensors: Sequence[_Tensor], features: Sequence[Float[Array, " features"] | None]
    ) -> list[_Tensor]:
        """Move the hyperparameters of all tensors; the network sees them as one batch."""
        seen = [index for index, x in enumerate(features) if x is not None]
        new = list(tensors)
        if not seen:
            return new
        dtype = self.readout.bias.dtype
        x = jnp.stack([x.astype(dtype) for x in features if x is not None], axis=1)
        memory = self.network(jnp.stack([tensors[i].memory.astype(dtype) for i in seen], axis=2), x)
        change = self.output_scale * self.readout(memory[0])
        for column, index in enumerate(seen):
            old = tensors[index]
            controls = _limit(old.controls + change[:, column].astype(old.controls.dtype))
            new[index] = _Tensor(old.first, old.second, controls, memory[:, :, column].astype(old.memory.dtype))
        return new


def _limit(controls: Float[Array, " 4"]) -> Float[Array, " 4"]:
    return jnp.clip(controls, jnp.asarray(LOWER, controls.dtype), jnp.asarray(UPPER, controls.dtype))
