"""A learned controller of rate and direction, one decision per tensor."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm, AbstractPlanner
from .._core._trees import compute_dtype, match, trainable


_DECAYS = (0.5, 0.9, 0.99)
_SECOND_DECAY = 0.99
_FEATURES = 9 + 3
_OUTPUTS = 5
_FLOOR = 1e-3


class _ControllerState(eqx.Module):
    momenta: PyTree
    second: PyTree
    count: Int[Array, ""]


def _float(x: object) -> Float[Array, "..."]:
    return jnp.asarray(x, jnp.result_type(float))


class Controller(AbstractAlgorithm[_ControllerState, PyTree, PyTree], AbstractPlanner):
    r"""Adam, with a small network that sets the rate and mixes the direction of each tensor at each step.

    With bias-corrected momenta $\hat m_k$ (decays 0.5, 0.9, 0.99), second moment $\hat v$, gradient $g$ and
    $r = 1 / (\sqrt{\hat v} + \epsilon)$, every tensor moves by

    $$\Delta\theta = -\,\eta\, c(x)\, e^{o_0}\Big[\hat m_{.9} r + o_1 \hat m_{.5} r + o_2 (\hat m_{.99} - \hat m_{.9}) r
      + o_3 (g - \hat m_{.9}) r + o_4 \frac{\theta}{\mathrm{rms}(\theta)}\Big]$$

    where $x = t / H$ is the share of the budget that is spent, $c(x) = \tfrac12(1 + \cos \pi x)$, and
    $o = W_2 \tanh(W_1 s + b_1) + b_2$ reads only the clock and the shape of the tensor ($s$: nine functions of $t$ and
    $H$, whether it is a matrix, its size, its largest dimension). $W_2$ starts near zero, so an untrained controller
    is Adam with a cosine schedule.

    A learned counterpart of hyperparameter controllers such as NNAdam, without a network per parameter: the cost of a
    step is that of Adam with three momenta. It plans ahead: tell it the budget with [`metaopt.with_horizon`][].

    ??? cite "Reference"

        The idea of a network per tensor that controls a hand-designed rule:

        ```bibtex
        @article{metz2020using,
          title={Using a thousand optimization tasks to learn hyperparameter search strategies},
          author={Metz, Luke and Maheswaranathan, Niru and Sun, Ruoxi and Freeman, C Daniel
                  and Poole, Ben and Sohl-Dickstein, Jascha},
          journal={arXiv:2002.11887}, year={2020}
        }
        ```
    """

    log_rate: Float[Array, ""]
    decay_logits: Float[Array, "3"]
    second_decay_logit: Float[Array, ""]
    hidden_weight: Float[Array, "hidden features"]
    hidden_bias: Float[Array, " hidden"]
    output_weight: Float[Array, "outputs hidden"]
    output_bias: Float[Array, " outputs"]
    horizon: Int[Array, ""]

    def __init__(
        self,
        learning_rate: float = 0.05,
        hidden_size: int = 8,
        *,
        horizon: int = 1000,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `learning_rate`: the rate $\\eta$ to start from; a good rate for Adam with a cosine schedule.
        - `hidden_size`: the width of the network.
        - `horizon`: the budget $H$ in steps, until [`metaopt.with_horizon`][] says otherwise.
        - `key`: draws the network.

        **Raises:**

        - `ValueError`: if a number is not positive.
        """
        for name, number in (("learning_rate", learning_rate), ("hidden_size", hidden_size), ("horizon", horizon)):
            if not number > 0:
                raise ValueError(f"`{name}` must be positive, but {number} was given.")
        hidden_key, output_key = jr.split(jr.key(0) if key is None else key)
        self.log_rate = jnp.log(_float(learning_rate))
        self.decay_logits = jax.scipy.special.logit(_float(_DECAYS))
        self.second_decay_logit = jax.scipy.special.logit(_float(_SECOND_DECAY))
        self.hidden_weight = jr.normal(hidden_key, (hidden_size, _FEATURES)) / _FEATURES**0.5
        self.hidden_bias = jnp.zeros(hidden_size)
        self.output_weight = 0.01 * jr.normal(output_key, (_OUTPUTS, hidden_size)) / hidden_size**0.5
        self.output_bias = jnp.zeros(_OUTPUTS)
        self.horizon = jnp.asarray(horizon, jnp.int32)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _ControllerState:
        del key
        mutable = trainable(params)
        momenta = jtu.tree_map(lambda p: jnp.zeros((len(_DECAYS), *p.shape), compute_dtype(p.dtype)), mutable)
        second = jtu.tree_map(lambda p: jnp.zeros(p.shape, compute_dtype(p.dtype)), mutable)
        return _ControllerState(momenta, second, jnp.zeros((), jnp.int32))

    def step(
        self, state: _ControllerState, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[_ControllerState, PyTree]:
        del value
        matched = match(params, grads)
        clock, anchor = self._clock(state.count)
        count = state.count + 1
        momenta, seconds, news = [], [], []
        for leaf, momentum, second in zip(
            matched.leaves, matched.pick(state.momenta), matched.pick(state.second), strict=True
        ):
            dtype = momentum.dtype
            outputs = self._decide(clock, leaf.param.shape).astype(dtype)
            scale = (anchor + self.log_rate).astype(dtype) + outputs[0]
            momentum, second, direction = self._direct(
                leaf.param.astype(dtype), leaf.grad.astype(dtype), momentum, second, count, outputs
            )
            momenta.append(momentum)
            seconds.append(second)
            news.append((leaf.param.astype(dtype) - jnp.exp(scale) * direction).astype(leaf.param.dtype))
        state = _ControllerState(matched.put(state.momenta, momenta), matched.put(state.second, seconds), count)
        return state, matched.rebuild(news)

    def _clock(self, count: Int[Array, ""]) -> tuple[Float[Array, "9"], Float[Array, ""]]:
        """Nine functions of the clock, each of order one, and the logarithm of the cosine anchor."""
        dtype = self.log_rate.dtype
        horizon, t = self.horizon.astype(dtype), count.astype(dtype)
        x = jnp.minimum(t / horizon, 1.0)
        anchor = jnp.log(jnp.maximum(0.5 * (1.0 + jnp.cos(jnp.pi * x)), _FLOOR))
        n = t + 1.0
        features = [
            2.0 * x - 1.0,
            2.0 * jnp.sqrt(x) - 1.0,
            jnp.log(1.0 - x + 1.0 / horizon) / 3.0 + 0.5,
            jnp.log1p(n) / 3.0 - 1.0,
            jnp.tanh(n / 10.0 - 1.0),
            jnp.exp(-n / 3.0),
            jnp.tanh(n / 100.0 - 1.0),
            jnp.log(horizon) / 3.0 - 2.0,
            jnp.cos(jnp.pi * x),
        ]
        return jnp.stack(features), anchor

    def _decide(self, clock: Float[Array, "9"], shape: tuple[int, ...]) -> Float[Array, "5"]:
        size, largest = max(math.prod(shape), 1), max(shape, default=1)
        of_shape = [len(shape) > 1, math.log(size) / 5.0 - 0.5, math.log(max(largest, 1)) / 4.0 + 0.5]
        features = jnp.concatenate([clock, jnp.asarray(of_shape, clock.dtype) - 0.5])
        hidden = jnp.tanh(self.hidden_weight @ features + self.hidden_bias)
        return self.output_weight @ hidden + self.output_bias

    def _direct(
        self,
        param: Float[Array, "*shape"],
        grad: Float[Array, "*shape"],
        momentum: Float[Array, "3 *shape"],
        second: Float[Array, "*shape"],
        count: Int[Array, ""],
        outputs: Float[Array, "5"],
    ) -> tuple[Float[Array, "3 *shape"], Float[Array, "*shape"], Float[Array, "*shape"]]:
        """The new moments and the direction."""
        n = count.astype(grad.dtype)
        decays = jax.nn.sigmoid(self.decay_logits).astype(grad.dtype)
        second_decay = jax.nn.sigmoid(self.second_decay_logit).astype(grad.dtype)
        momentum = jnp.stack([d * m + (1.0 - d) * grad for d, m in zip(decays, momentum, strict=True)])
        second = second_decay * second + (1.0 - second_decay) * jnp.square(grad)
        tiny = jnp.finfo(grad.dtype).tiny ** 0.5
        r = 1.0 / (jnp.sqrt(second / (1.0 - second_decay**n)) + 1e-8)
        fast, middle, slow = (m / (1.0 - d**n) for d, m in zip(decays, momentum, strict=True))
        rms = jnp.sqrt(jnp.sum(jnp.square(param)) / max(param.size, 1) + tiny)
        mixed = middle + outputs[1] * fast + outputs[2] * (slow - middle) + outputs[3] * (grad - middle)
        return momentum, second, mixed * r + outputs[4] * param / (rms + 1e-3)
