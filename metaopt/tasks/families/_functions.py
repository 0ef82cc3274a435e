"""Few-shot regression of functions of several kinds."""

import math
from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core import AbstractTaskFamily
from .._common import check_at_least, check_choice, check_sizes
from ..networks._networks import AbstractNetwork, DenseNetwork
from ._regression import AbstractRegressionTask


FunctionKind = Literal["sine", "polynomial", "step", "bump", "vee"]
_KINDS: tuple[FunctionKind, ...] = get_args(FunctionKind)


class FunctionsTask(AbstractRegressionTask):
    r"""Fit one function from a few of its points. See [`metaopt.tasks.Functions`][] for the kinds.

    The loss is the mean square of the errors at the support points, `measure` the same at the query points. Both are
    deterministic.

    **Arguments:**

    - `network`: what fits.
    - `kind`: which of the kinds, by its number.
    - `amplitude`, `shift`, `coefficients`: $A$, $s$ and $c$.
    - `support`, `query`: the points.
    """

    network: AbstractNetwork
    kind: Int[Array, ""]
    amplitude: Float[Array, ""]
    shift: Float[Array, ""]
    coefficients: Float[Array, " 3"]
    support: Float[Array, " shots"]
    query: Float[Array, " queries"]

    def target(self, points: Float[Array, " n"]) -> Float[Array, " n"]:
        moved, scaled = points - self.shift, points / 5.0
        powers = jnp.stack([scaled, scaled**2, scaled**3])
        shapes = {
            "sine": jnp.sin(moved),
            "polynomial": self.coefficients @ powers,
            "step": jnp.where(moved < 0, -1.0, 1.0),
            "bump": jnp.exp(-0.5 * jnp.square(moved)),
            "vee": jnp.abs(moved) / 2.5 - 1.0,
        }
        return self.amplitude * jnp.stack([shapes[name] for name in _KINDS])[self.kind]


class Functions(AbstractTaskFamily):
    r"""Draw functions on $[-5, 5]$ to fit from a few points: [`metaopt.tasks.Sinusoids`][] and others like them.

    | kind | function |
    |---|---|
    | `"sine"` | $A \sin(x - s)$ |
    | `"polynomial"` | $A \sum_{k=1}^3 c_k (x / 5)^k$ |
    | `"step"` | $A \, \mathrm{sign}(x - s)$ |
    | `"bump"` | $A \exp(-(x - s)^2 / 2)$ |
    | `"vee"` | $A \, (\lvert x - s \rvert / 2.5 - 1)$ |

    with $A \sim U[0.1, 5]$, $s \sim U[-\pi/2, \pi/2]$, $c_k \sim U[-1, 1]$, and points $x \sim U[-5, 5]$. The network
    is a multilayer perceptron with rectifiers, the same for all kinds: tasks of several kinds fit in one batch, and a
    sequence of families, one for each kind, is a stream for [`metaopt.fewshot.continual`][].

    **Arguments:**

    - `kinds`: those that are drawn, each as often as the others.
    - `shots`: how many points there are to fit.
    - `queries`: how many other points `measure` reports on.
    - `hidden`: hidden units per layer.

    **Raises:**

    - `ValueError`: if there is no kind or an unknown one, or `shots` or `queries` is below 1.
    """

    chances: Float[Array, " kinds"]
    shots: int = eqx.field(static=True)
    queries: int = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        kinds: tuple[FunctionKind, ...] = _KINDS,
        shots: int = 10,
        queries: int = 100,
        hidden: tuple[int, ...] = (40, 40),
    ):
        if not kinds:
            raise ValueError("`kinds` is empty; a family of functions needs at least one.")
        for kind in kinds:
            check_choice("kinds", kind, FunctionKind)
        check_at_least("shots", shots, 1)
        check_at_least("queries", queries, 1)
        check_sizes("hidden", hidden)
        # A leaf, so that families of different kinds share their compiled programs.
        self.chances = jnp.asarray([kinds.count(name) / len(kinds) for name in _KINDS])
        self.shots, self.queries, self.hidden = shots, queries, hidden

    def sample(self, *, key: PRNGKeyArray) -> FunctionsTask:
        keys = jr.split(key, 6)
        return FunctionsTask(
            DenseNetwork((1, *self.hidden, 1), "relu"),
            jr.choice(keys[0], len(_KINDS), p=self.chances).astype(jnp.int32),
            jr.uniform(keys[1], minval=0.1, maxval=5.0),
            jr.uniform(keys[2], minval=-math.pi / 2, maxval=math.pi / 2),
            jr.uniform(keys[3], (3,), minval=-1.0, maxval=1.0),
            jr.uniform(keys[4], (self.shots,), minval=-5.0, maxval=5.0),
            jr.uniform(keys[5], (self.queries,), minval=-5.0, maxval=5.0),
        )
