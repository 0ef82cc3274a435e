"""Sparse vectors, seen through a dictionary."""

import functools as ft
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractTask, AbstractTaskFamily
from .._common import check_above, check_at_least, check_choice
from ..data._dataset import Dataset


Signal = Literal["gradient", "residual"]


@ft.cache
def _dictionary(rows: int, columns: int, condition: float | None, seed: int) -> Dataset:
    # The legacy generator: its stream is frozen, so a seed means the same dictionary with every release of numpy.
    matrix = np.random.RandomState(seed).normal(size=(rows, columns))
    if condition is not None:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        matrix = (left * np.geomspace(1, 1 / condition, values.size)) @ right
    return Dataset(f"dictionary/{seed}", matrix=matrix / np.linalg.norm(matrix, axis=0))


class SparseCodingTask(AbstractTask[Float[Array, " n"], Float[Array, " k"]]):
    r"""Find a sparse vector $x^*$ from few linear measurements $b = A x^* + \epsilon$ of it.

    The value is the LASSO objective

    $$f(x) = \tfrac12 \lVert A x - b \rVert^2 + \lambda \lVert x \rVert_1$$

    and `measure` the squared error $\lVert x - x^* \rVert^2$, since the vector itself is what one wants. The start is
    $x_0 = 0$. Deterministic.

    The signal is what the algorithm asks for. With `signal="gradient"` it is the (sub)gradient
    $A^\top (A x - b) + \lambda \, \mathrm{sign}(x)$, for optimizers that know nothing of the problem; with
    `"residual"` it is $A x - b$, one number per measurement, for those that have a dictionary of their own, such as
    [`metaopt.l2o.ISTA`][] and [`metaopt.l2o.LISTA`][].

    **Arguments:**

    - `dictionary`: holds $A$ as `matrix`.
    - `code`: $x^*$.
    - `measurements`: $b$.
    - `weight`: $\lambda$.
    - `signal`: which signal.
    """

    dictionary: Dataset = eqx.field(static=True)
    code: Float[Array, " n"]
    measurements: Float[Array, " m"]
    weight: float = eqx.field(static=True, default=0.1)
    signal: Signal = eqx.field(static=True, default="gradient")

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        del key
        return jnp.zeros_like(self.code)

    def loss(self, params: Float[Array, " n"]) -> Float[Array, ""]:
        """The LASSO objective."""
        return self._objective(params)[0]

    def evaluate(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, " k"]]:
        del key
        value, residual = self._objective(params)
        if self.signal == "residual":
            return value, residual
        # Not by differentiation: where everything starts, JAX takes 1 for the slope of |x|, and 0 is as good.
        slope = residual @ self._matrix + self.weight * jnp.sign(self._wide(params))
        return value, slope.astype(params.dtype)

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.sum(jnp.square(self._wide(params) - self.code))

    def nmse_db(self, params: Float[Array, " n"]) -> Float[Array, ""]:
        r"""The error in decibels, $10 \log_{10} \lVert x - x^* \rVert^2 / \lVert x^* \rVert^2$."""
        error, size = (jnp.sum(jnp.square(x)) for x in (self._wide(params) - self.code, self.code))
        return 10 * jnp.log10(error / size)

    @property
    def _matrix(self) -> Float[Array, "m n"]:
        return jnp.asarray(self.dictionary["matrix"], self.code.dtype)

    def _wide(self, params: Float[Array, " n"]) -> Float[Array, " n"]:
        return params.astype(self.code.dtype)

    def _objective(self, params: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, " m"]]:
        x = self._wide(params)
        residual = self._matrix @ x - self.measurements
        return jnp.sum(jnp.square(residual)) / 2 + self.weight * jnp.sum(jnp.abs(x)), residual


class SparseCoding(AbstractTaskFamily):
    r"""Draw sparse vectors to be found from few measurements. See [`metaopt.tasks.SparseCodingTask`][] for the loss.

    $$b = A x^* + \epsilon, \qquad x^*_i = s_i z_i, \quad s_i \sim \mathrm{Bernoulli}(p), \quad z_i \sim N(0, 1)$$

    All tasks share one dictionary $A$ of Gaussian entries, whose columns have norm one. The noise is white, and as
    large as the signal-to-noise ratio of $A x^*$ says. With the defaults this is the setting in which learned
    shrinkage-thresholding is compared.

    **Arguments:**

    - `rows`, `columns`: the shape of $A$.
    - `density`: $p$.
    - `snr_db`: the ratio $\lVert A x^* \rVert^2 / \mathbb{E} \lVert \epsilon \rVert^2$ in decibels; without noise by
        default.
    - `weight`: $\lambda$, of the LASSO objective.
    - `condition`: the condition number of $A$ before its columns are scaled: the singular values are evenly spread on a
        logarithmic scale. As drawn by default.
    - `seed`: draws $A$.
    - `signal`: what algorithms step on: `"gradient"` or `"residual"`.

    **Raises:**

    - `ValueError`: if a size is below 1, `density` is not in $(0, 1]$, `weight` is negative or `condition` below 1.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{chen2018theoretical,
          title={Theoretical Linear Convergence of Unfolded {ISTA} and Its Practical Weights and Thresholds},
          author={Chen, Xiaohan and Liu, Jialin and Wang, Zhangyang and Yin, Wotao},
          booktitle={Advances in Neural Information Processing Systems}, year={2018}
        }
        ```
    """

    rows: int = eqx.field(static=True, default=250)
    columns: int = eqx.field(static=True, default=500)
    density: float = eqx.field(static=True, default=0.1)
    snr_db: float | None = eqx.field(static=True, default=None)
    weight: float = eqx.field(static=True, default=0.1)
    condition: float | None = eqx.field(static=True, default=None)
    seed: int = eqx.field(static=True, default=0)
    signal: Signal = eqx.field(static=True, default="gradient")

    def __check_init__(self) -> None:
        check_at_least("rows", self.rows, 1)
        check_at_least("columns", self.columns, 1)
        check_above("density", self.density, 0)
        if self.density > 1:
            raise ValueError(f"`density` is a probability, but {self.density!r} was given.")
        if self.snr_db is not None:
            check_above("snr_db", self.snr_db, -float("inf"))
        check_at_least("weight", self.weight, 0)
        if self.condition is not None:
            check_at_least("condition", self.condition, 1)
        check_at_least("seed", self.seed, 0)
        check_choice("signal", self.signal, Signal)

    @property
    def dictionary(self) -> Float[np.ndarray, "rows columns"]:
        """$A$, in double precision."""
        return self._data["matrix"]

    def sample(self, *, key: PRNGKeyArray) -> SparseCodingTask:
        support_key, code_key, noise_key = jr.split(key, 3)
        support = jr.bernoulli(support_key, self.density, (self.columns,))
        code = jnp.where(support, jr.normal(code_key, (self.columns,)), 0.0)
        clean = jnp.asarray(self.dictionary, code.dtype) @ code
        if self.snr_db is None:
            return SparseCodingTask(self._data, code, clean, self.weight, self.signal)
        deviation = jnp.sqrt(jnp.mean(jnp.square(clean)) * 10 ** (-self.snr_db / 10))
        noise = deviation * jr.normal(noise_key, clean.shape)
        return SparseCodingTask(self._data, code, clean + noise, self.weight, self.signal)

    @property
    def _data(self) -> Any:
        return _dictionary(self.rows, self.columns, self.condition, self.seed)
