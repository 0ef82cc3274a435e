"""Rules that weigh the terms of a loss."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..._core.arrays._numbers import COUNT, FRACTION, NONNEGATIVE, POSITIVE, REAL, check_counts, number
from .._objective import Objective
from ..base import AbstractBalancing


Factors = tuple[Float[Array, "..."], ...]


class _Averages(NamedTuple):
    weights: Float[Array, " terms"]


def _ones(terms: int) -> Float[Array, " terms"]:
    return jnp.ones(terms, jnp.result_type(float))


def _inverse_shares(sizes: Float[Array, " terms"]) -> Float[Array, " terms"]:
    tiny = jnp.finfo(sizes.dtype).tiny
    return jnp.sum(sizes) / jnp.maximum(sizes, tiny * 1e6)


def _averaged(state: _Averages, new: Float[Array, " terms"], decay: Float[Array, ""]) -> tuple[_Averages, Factors]:
    decay, new = decay.astype(state.weights.dtype), new.astype(state.weights.dtype)
    weights = decay * state.weights + (1 - decay) * new
    return _Averages(weights), tuple(weights)


class GradNorm(AbstractBalancing):
    r"""Give all terms gradients of one norm: $\hat\lambda_k = \sum_j \lVert \nabla L_j \rVert / \lVert \nabla L_k
    \rVert$, averaged over steps.

    **Arguments:**

    - `terms`: how many terms there are, that of the equation included.
    - `decay`: of the moving average.

    ??? cite "Reference"

        ```bibtex
        @article{wang2023expert,
            title={An expert's guide to training physics-informed neural networks},
            author={Wang, Sifan and Sankaran, Shyam and Wang, Hanwen and Perdikaris, Paris},
            journal={arXiv preprint arXiv:2308.08468},
            year={2023},
        }
        ```
    """

    terms: int = eqx.field(static=True, default=2)
    decay: Float[Array, ""] = eqx.field(converter=number, default=0.9)

    def __check_init__(self) -> None:
        COUNT.check(terms=self.terms)
        FRACTION.check(decay=self.decay)

    def init(self, *, key: PRNGKeyArray | None = None) -> _Averages:
        del key
        return _Averages(_ones(self.terms))

    def weights(self, state: _Averages, signal: Objective, params: Any) -> tuple[_Averages, Factors]:
        _, stacked = signal.stacked(params, weighted=False)
        squares = [jnp.sum(x.reshape(x.shape[0], -1) ** 2, axis=1) for x in jtu.tree_leaves(stacked)]
        norms = jnp.sqrt(sum(squares[1:], squares[0]))
        return _averaged(state, _inverse_shares(norms), self.decay)


class NTK(AbstractBalancing):
    r"""Give all terms one mean eigenvalue of the tangent kernel: $\hat\lambda_k = \sum_j t_j / t_k$ with
    $t_k = \frac{1}{n_k} \sum_i \lVert \nabla_\theta r_k(x_i) \rVert^2$, averaged over steps.

    **Arguments:**

    - `terms`: how many terms there are, that of the equation included.
    - `decay`: of the moving average.
    - `samples`: of how many points of each term the gradient is taken.

    ??? cite "Reference"

        ```bibtex
        @article{wang2022when,
            title={When and why {PINN}s fail to train: A neural tangent kernel perspective},
            author={Wang, Sifan and Yu, Xinling and Perdikaris, Paris},
            journal={Journal of Computational Physics},
            volume={449},
            pages={110768},
            year={2022},
        }
        ```
    """

    terms: int = eqx.field(static=True, default=2)
    decay: Float[Array, ""] = eqx.field(converter=number, default=0.9)
    samples: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        COUNT.check(terms=self.terms)
        FRACTION.check(decay=self.decay)
        check_counts(terms=self.terms, samples=self.samples)

    def init(self, *, key: PRNGKeyArray | None = None) -> _Averages:
        del key
        return _Averages(_ones(self.terms))

    def weights(self, state: _Averages, signal: Objective, params: Any) -> tuple[_Averages, Factors]:
        def few(points: PyTree) -> PyTree:
            return jtu.tree_map(lambda x: x[:: max(1, x.shape[0] // self.samples)][: self.samples], points)

        traces = []
        for index, points in enumerate(signal.points):
            rows = signal.term_system(index, params, few(points))
            traces.append(jnp.mean(jnp.sum(rows**2, axis=(1, 2))))
        return _averaged(state, _inverse_shares(jnp.stack(traces)), self.decay)


class _Losses(NamedTuple):
    weights: Float[Array, " terms"]
    first: Float[Array, " terms"]
    last: Float[Array, " terms"]
    started: Bool[Array, ""]
    key: PRNGKeyArray


class ReLoBRaLo(AbstractBalancing):
    r"""Relative loss balancing with random lookback.

    $$\lambda(t) = \alpha (\rho \lambda(t - 1) + (1 - \rho) \hat\lambda(t, 0)) + (1 - \alpha) \hat\lambda(t, t - 1),
      \qquad \hat\lambda_k(t, t') = m \, \mathrm{softmax}_k \left( \frac{L_k(t)}{T \, L_k(t')} \right)$$

    for $m$ terms, where $\rho$ is 1 with probability `lookback`, else 0.

    **Arguments:**

    - `terms`: $m$, that of the equation included.
    - `decay`: $\alpha$.
    - `temperature`: $T$.
    - `lookback`: the expectation of $\rho$.

    ??? cite "Reference"

        ```bibtex
        @article{bischof2021multi,
            title={Multi-objective loss balancing for physics-informed deep learning},
            author={Bischof, Rafael and Kraus, Michael},
            journal={arXiv preprint arXiv:2110.09813},
            year={2021},
        }
        ```
    """

    terms: int = eqx.field(static=True, default=2)
    decay: Float[Array, ""] = eqx.field(converter=number, default=0.999)
    temperature: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    lookback: Float[Array, ""] = eqx.field(converter=number, default=0.999)

    def __check_init__(self) -> None:
        COUNT.check(terms=self.terms)
        FRACTION.check(decay=self.decay, lookback=self.lookback)
        POSITIVE.check(temperature=self.temperature)

    def init(self, *, key: PRNGKeyArray | None = None) -> _Losses:
        ones = _ones(self.terms)
        return _Losses(ones, ones, ones, jnp.asarray(False), jr.key(0) if key is None else key)

    def weights(self, state: _Losses, signal: Objective, params: Any) -> tuple[_Losses, Factors]:
        losses = signal.losses(params).astype(state.weights.dtype)
        first = jnp.where(state.started, state.first, losses)
        last = jnp.where(state.started, state.last, losses)
        decay, temperature, lookback = (x.astype(losses.dtype) for x in (self.decay, self.temperature, self.lookback))

        def relative(to: Array) -> Array:
            tiny = jnp.finfo(losses.dtype).tiny
            return self.terms * jax.nn.softmax(losses / (temperature * jnp.maximum(to, tiny * 1e6)))

        key, draw = jr.split(state.key)
        rho = jr.bernoulli(draw, lookback).astype(losses.dtype)
        history = rho * state.weights + (1 - rho) * relative(first)
        weights = decay * history + (1 - decay) * relative(last)
        return _Losses(weights, first, losses, jnp.asarray(True), key), tuple(weights)


class SoftAdapt(AbstractBalancing):
    r"""Weigh most what falls slowest: $\lambda_k = m \, \mathrm{softmax}_k(\beta s_k)$, with the changes
    $s_k = L_k(t) - L_k(t - 1)$ divided by $\sum_j |s_j|$.

    **Arguments:**

    - `terms`: $m$, that of the equation included.
    - `beta`: $\beta$.

    ??? cite "Reference"

        ```bibtex
        @article{heydari2019softadapt,
            title={{SoftAdapt}: Techniques for adaptive loss weighting of neural networks with multi-part loss
                functions},
            author={Heydari, A. Ali and Thompson, Craig A. and Mehmood, Asif},
            journal={arXiv preprint arXiv:1912.12355},
            year={2019},
        }
        ```
    """

    terms: int = eqx.field(static=True, default=2)
    beta: Float[Array, ""] = eqx.field(converter=number, default=0.1)

    def __check_init__(self) -> None:
        COUNT.check(terms=self.terms)
        REAL.check(beta=self.beta)

    def init(self, *, key: PRNGKeyArray | None = None) -> _Averages:
        del key
        # Holds the losses before; infinite before the first step.
        return _Averages(jnp.full(self.terms, jnp.inf, jnp.result_type(float)))

    def weights(self, state: _Averages, signal: Objective, params: Any) -> tuple[_Averages, Factors]:
        losses = signal.losses(params).astype(state.weights.dtype)
        changes = losses - jnp.where(jnp.isfinite(state.weights), state.weights, losses)
        total = jnp.sum(jnp.abs(changes))
        changes = changes / jnp.where(total == 0, 1, total)
        weights = self.terms * jax.nn.softmax(self.beta.astype(losses.dtype) * changes)
        return _Averages(losses), tuple(weights)


class SelfAdaptive(AbstractBalancing):
    r"""A weight $\lambda_{ki}^2$ for each point, raised where the residual stays large:
    $\lambda_{ki} \leftarrow \lambda_{ki} + 2 \eta \lambda_{ki} r_k(x_{ki})^2$.

    It needs a task that keeps its points.

    **Arguments:**

    - `counts`: how many points each term has, that of the equation first.
    - `rate`: $\eta$.

    ??? cite "Reference"

        ```bibtex
        @article{mcclenny2023self,
            title={Self-adaptive physics-informed neural networks},
            author={McClenny, Levi D. and Braga-Neto, Ulisses M.},
            journal={Journal of Computational Physics},
            volume={474},
            pages={111722},
            year={2023},
        }
        ```
    """

    counts: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(1000, 200))
    rate: Float[Array, ""] = eqx.field(converter=number, default=0.01)

    def __check_init__(self) -> None:
        COUNT.check(counts=self.counts)
        NONNEGATIVE.check(rate=self.rate)

    def init(self, *, key: PRNGKeyArray | None = None) -> tuple[Float[Array, "..."], ...]:
        del key
        return tuple(_ones(count) for count in self.counts)

    def weights(
        self, state: tuple[Float[Array, "..."], ...], signal: Objective, params: Any
    ) -> tuple[tuple[Float[Array, "..."], ...], Factors]:
        new = []
        for weights, residual in zip(state, signal.residuals(params), strict=True):
            if residual.shape[0] != weights.shape[0]:
                raise ValueError(
                    f"`counts` are {self.counts}, but a term has {residual.shape[0]} points. "
                    "Give the points of each term."
                )
            squares = jnp.sum(residual**2, axis=1).astype(weights.dtype)
            # Relative to the mean: else the rate would depend on the units of the equation.
            squares = squares / jnp.maximum(jnp.mean(squares), jnp.finfo(weights.dtype).tiny * 1e6)
            new.append(weights + 2 * self.rate.astype(weights.dtype) * weights * squares)
        return tuple(new), tuple(weights**2 for weights in new)


class Causal(AbstractBalancing):
    r"""Weigh the equation at late times only once it is solved at early ones.

    Time is cut into chunks with mean squared residuals $L_j$; a point in chunk $i$ has the weight
    $\exp(-\epsilon \sum_{j < i} L_j)$.

    **Arguments:**

    - `terms`: how many terms there are, that of the equation included.
    - `tolerance`: $\epsilon$.
    - `chunks`: how many chunks.

    ??? cite "Reference"

        ```bibtex
        @article{wang2024respecting,
            title={Respecting causality for training physics-informed neural networks},
            author={Wang, Sifan and Sankaran, Shyam and Perdikaris, Paris},
            journal={Computer Methods in Applied Mechanics and Engineering},
            volume={421},
            pages={116813},
            year={2024},
        }
        ```
    """

    terms: int = eqx.field(static=True, default=2)
    tolerance: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    chunks: int = eqx.field(static=True, default=16)

    def __check_init__(self) -> None:
        COUNT.check(terms=self.terms, chunks=self.chunks)
        NONNEGATIVE.check(tolerance=self.tolerance)

    def init(self, *, key: PRNGKeyArray | None = None) -> tuple[()]:
        del key
        return ()

    def weights(self, state: tuple[()], signal: Objective, params: Any) -> tuple[tuple[()], Factors]:
        (residual, *others) = signal.residuals(params)
        lower, upper = signal.task.domain.bounds()
        times = (signal.points[0].x[:, -1] - lower[-1]) / (upper[-1] - lower[-1])
        chunk: Int[Array, " n"] = jnp.clip((times * self.chunks).astype(jnp.int32), 0, self.chunks - 1)
        member = (chunk[:, None] == jnp.arange(self.chunks)[None]).astype(residual.dtype)
        means = jnp.sum(residual**2, axis=1) @ member / jnp.maximum(jnp.sum(member, axis=0), 1)
        before = jnp.cumsum(means) - means
        factors = jnp.exp(-self.tolerance.astype(residual.dtype) * before)[chunk]
        return state, (factors, *[jnp.ones((), residual.dtype) for _ in others])
