"""A physics-informed problem as a task."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import AbstractLossTask, AbstractTask
from .._core.arrays._numbers import NONNEGATIVE, check_counts, number
from ._functions import as_function
from ._objective import Objective
from .base import AbstractDomain, AbstractField, AbstractResidual, AbstractSampler, AbstractTerm, Points
from .conditions._boundary import Dirichlet
from .conditions._interior import Interior
from .conditions._normalization import Normalization
from .domains._domains import Box
from .equations._steady import Poisson
from .fields._fields import Perceptron
from .fields._jets import Jet, Rows
from .sampling._samplers import LatinHypercube


class PINN(AbstractLossTask):
    r"""A differential equation with its conditions, solved by a network: a task like any other.

    The loss is $\lambda_0 \frac{1}{n} \sum_i \lVert r(x_i) \rVert^2 + \sum_k \lambda_k \frac{1}{n_k} \sum_i \lVert
    r_k(x_{ki}) \rVert^2$ with the residual $r$ of the equation and the conditions $r_k$. `measure` is the relative
    $L^2$ error against the reference if there is one, else the loss at points of its own.

    Parameters are `{"field": ..., "coefficients": {name: number}}`; coefficients are those of an inverse problem.

    ??? cite "Reference"

        ```bibtex
        @article{raissi2019physics,
            title={Physics-informed neural networks: a deep learning framework for solving forward and inverse problems
                involving nonlinear partial differential equations},
            author={Raissi, Maziar and Perdikaris, Paris and Karniadakis, George E.},
            journal={Journal of Computational Physics},
            volume={378},
            pages={686--707},
            year={2019},
        }
        ```
    """

    field: AbstractField
    domain: AbstractDomain
    terms: tuple[AbstractTerm, ...]
    weights: Float[Array, " terms"]
    points: tuple[Points, ...]
    tests: tuple[Points, ...]
    reference: Any
    sampler: AbstractSampler
    unknown: tuple[str, ...] = eqx.field(static=True)
    resampled: bool = eqx.field(static=True)

    def __init__(
        self,
        equation: AbstractResidual | None = None,
        conditions: Sequence[AbstractTerm] | None = None,
        domain: AbstractDomain | None = None,
        *,
        field: AbstractField | None = None,
        interior: int = 1000,
        boundary: int = 200,
        physics_weight: float = 1.0,
        boundary_weight: float = 10.0,
        weights: Sequence[float] | None = None,
        unknown: Sequence[str] = (),
        reference: Callable[[Any], Any] | None = None,
        tests: int = 1000,
        sampler: AbstractSampler | None = None,
        resampled: bool = False,
        seed: int = 0,
        key: PRNGKeyArray | None = None,
    ):
        r"""**Arguments:**

        - `equation`: the differential equation; by default Poisson's with the source 1.
        - `conditions`: boundary, initial and data terms; by default zero on the boundary.
        - `domain`: where; by default in the unit square.
        - `field`: the network; by default a perceptron with two hidden layers of 32 units.
        - `interior`: how many points the equation is evaluated at.
        - `boundary`: how many points each condition is evaluated at.
        - `physics_weight`: $\lambda_0$.
        - `boundary_weight`: each other $\lambda_k$.
        - `weights`: all of them, that of the equation first, instead.
        - `unknown`: names of coefficients of the equation that are parameters, to be found from data.
        - `reference`: the solution, a function of points, if it is known.
        - `tests`: how many points `measure` uses.
        - `sampler`: how points are spread; by default a Latin hypercube.
        - `resampled`: whether each evaluation draws new points, instead of the same ones always.
        - `seed`, `key`: draw the points; the key goes before the seed.

        **Raises:**

        - `ValueError`: if the parts do not fit; the message names the term.
        """
        NONNEGATIVE.check(physics_weight=physics_weight, boundary_weight=boundary_weight, weights=weights)
        check_counts(interior=interior, boundary=boundary, tests=tests)
        equation = Poisson(1.0) if equation is None else equation
        conditions = (Dirichlet(),) if conditions is None else conditions
        domain = Box() if domain is None else domain
        sampler = LatinHypercube() if sampler is None else sampler
        self.domain, self.sampler, self.resampled = domain, sampler, resampled
        self.terms = (Interior(equation), *conditions)
        names = [term.name for term in self.terms]
        d = domain.dimension
        outputs = _named(names[0], lambda: equation.outputs(d))
        self.field = Perceptron((d, 32, 32, outputs)) if field is None else field
        _check_field(self.field, d, outputs, names[0])
        given = (physics_weight, *[boundary_weight] * len(conditions)) if weights is None else tuple(weights)
        if len(given) != len(self.terms):
            raise ValueError(f"{len(self.terms)} terms need as many weights, but {len(given)} were given.")
        self.weights = number(given)
        self.unknown = tuple(unknown)
        for name in self.unknown:
            _check_unknown(equation, name)
        self.reference = None if reference is None else as_function(reference)
        counts = [interior, *[boundary] * len(conditions)]
        keys = jr.split(jr.key(seed) if key is None else key)
        self.points = _draw_all(self.terms, domain, sampler, tuple(counts), keys[0])
        self.tests = _draw_all(self.terms, domain, sampler, (tests,) * len(counts), keys[1])
        self._check()

    def init(self, *, key: PRNGKeyArray) -> dict[str, Any]:
        equation = self._equation()
        return {
            "field": self.field.init(key=key),
            "coefficients": {name: jnp.asarray(_coefficient(equation, name)) for name in self.unknown},
        }

    def loss(self, params: dict[str, Any], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.objective(key=key).loss(params)

    def objective(self, *, key: PRNGKeyArray) -> Objective:
        """The loss of one step, with all that a solver may ask for."""
        points = self.points
        if self.resampled:
            counts = tuple(p.x.shape[0] for p in points)
            points = _draw_all(self.terms, self.domain, self.sampler, counts, key)
        return Objective(self, points, tuple(self.weights))

    def measure(self, params: dict[str, Any], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        if self.reference is None:
            return Objective(self, self.tests, tuple(self.weights)).loss(params)
        return self.error(params, self.tests[0].x)

    def error(self, params: dict[str, Any], points: Float[Array, "n d"]) -> Float[Array, ""]:
        """The relative $L^2$ error at some points."""
        if self.reference is None:
            raise ValueError("The error needs a `reference`, a function of points that is the solution.")
        found = self.solution(params, points)
        wanted = jnp.asarray(self.reference(points)).astype(found.dtype)
        wanted = wanted[:, None] if wanted.ndim == 1 else wanted
        # A pressure, say, may have no reference.
        found = found[:, : wanted.shape[1]]
        return jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted)

    def solution(self, params: dict[str, Any], points: Float[Array, "n d"]) -> Float[Array, "n m"]:
        """The network's outputs at some points."""
        return self.field.apply(params["field"], points)

    def jet(self, params: dict[str, Any], points: Float[Array, "n d"], *, order: int = 0, rows: Rows = ()) -> Jet:
        """The network's outputs with derivatives."""
        leaves = [x for x in jtu.tree_leaves(params["field"]) if eqx.is_inexact_array(x)]
        points = points.astype(leaves[0].dtype) if leaves else points
        return self.field.push(params["field"], Jet.seed(points, rows) if order else Jet.constant(points))

    def term_residual(self, index: int, params: dict[str, Any], points: Points) -> Float[Array, "n k"]:
        """What one of the terms wants to vanish, at some points."""
        term = self.terms[index]
        if isinstance(term, Interior) and self.unknown:
            term = Interior(self._equation(params["coefficients"]), term.name)

        def evaluate(points: Float[Array, "n d"], *, order: int = 0, rows: Rows = ()) -> Jet:
            return self.jet(params, points, order=order, rows=rows)

        return _named(term.name, lambda: term.residual(evaluate, points))

    def pointwise(self, index: int) -> bool:
        """Whether each row of a term's residual depends on its own point alone."""
        return not isinstance(self.terms[index], Normalization)

    def physics(self, params: dict[str, Any], points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        """The residual of the equation at some points."""
        return self.term_residual(0, params, Points(points))

    def _equation(self, coefficients: dict[str, Array] | None = None) -> AbstractResidual:
        interior = self.terms[0]
        assert isinstance(interior, Interior)
        equation = interior.equation
        for name, value in (coefficients or {}).items():
            equation = eqx.tree_at(lambda e, n=name: _coefficient(e, n), equation, value)
        return equation

    def _check(self) -> None:
        """Check shapes of every term, and that what is known is finite."""
        params = jax.eval_shape(lambda key: self.init(key=key), jr.key(0))
        for index, (term, points) in enumerate(zip(self.terms, self.points, strict=True)):
            eqx.filter_eval_shape(lambda p, x, i=index: self.term_residual(i, p, x), params, points)
            if any(isinstance(x, Tracer) for x in jtu.tree_leaves((term, points))):
                continue
            bad = np.flatnonzero(~np.isfinite(np.asarray(_at_zero(term, points, self.field.outputs))).all(axis=1))
            if bad.size:
                where = np.asarray(points.x)[min(bad[0], points.x.shape[0] - 1)].tolist()
                raise ValueError(
                    f"term `{term.name}`: its source or value is not finite at {bad.size} of {points.x.shape[0]} "
                    f"points, the first {where}. Give a function that is finite everywhere in the domain."
                )


class AsObjective(AbstractTask[PyTree, Objective]):
    """A physics-informed task whose signal is the objective, for solvers that ask for more than a gradient."""

    task: PINN

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return self.task.init(key=key)

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Objective]:
        signal = self.task.objective(key=key)
        return signal.loss(params), signal

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.task.measure(params, key=key)


class PerTerm(AbstractTask[PyTree, PyTree]):
    """A physics-informed task whose signal is the gradients of its terms, stacked on a leading axis.

    This is what a multi-objective combiner steps on.
    """

    task: PINN

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return self.task.init(key=key)

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
        losses, gradients = self.task.objective(key=key).stacked(params)
        return jnp.sum(losses), gradients

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.task.measure(params, key=key)


@eqx.filter_jit
def _draw_all(
    terms: tuple[AbstractTerm, ...],
    domain: AbstractDomain,
    sampler: AbstractSampler,
    counts: tuple[int, ...],
    key: PRNGKeyArray,
) -> tuple[Points, ...]:
    keys = jr.split(key, len(terms))
    drawn = zip(terms, counts, keys, strict=True)
    return tuple(term.draw(domain, count, key=k, sampler=sampler) for term, count, k in drawn)


@eqx.filter_jit
def _at_zero(term: AbstractTerm, points: Points, outputs: int) -> Float[Array, "n k"]:
    """What a term says of the field that is zero: finite, if what is known is."""

    def zero(points: Float[Array, "n d"], *, order: int = 0, rows: Rows = ()) -> Jet:
        n, d = points.shape
        axes = d if order else 0
        return Jet(jnp.zeros((1 + axes + len(rows), n, outputs), points.dtype), axes, rows)

    return term.residual(zero, points)


def _named(name: str, make: Callable[[], Any]) -> Any:
    """Call a function; what it complains about is the fault of a term."""
    try:
        return make()
    except ValueError as error:
        text = str(error)
        if text.startswith("term `"):
            raise
        raise ValueError(f"term `{name}`: {text.removesuffix('.')}.") from error


def _check_field(field: AbstractField, dimension: int, outputs: int, name: str) -> None:
    for what, found, wanted in (("inputs", field.inputs, dimension), ("outputs", field.outputs, outputs)):
        if found != wanted:
            raise ValueError(
                f"term `{name}`: the network has {found} {what}, but {wanted} "
                f"{'is' if wanted == 1 else 'are'} wanted. Set its first and last size to {dimension} and {outputs}."
            )


def _coefficient(equation: AbstractResidual, name: str) -> Any:
    parameters = getattr(equation, "parameters", {})
    return parameters[name] if name in parameters else getattr(equation, name)


def _check_unknown(equation: AbstractResidual, name: str) -> None:
    own = {n for n, x in vars(equation).items() if eqx.is_inexact_array(x)} | set(getattr(equation, "parameters", {}))
    if name not in own:
        raise ValueError(
            f"`unknown` names `{name}`, which is no coefficient of `{type(equation).__name__}`; "
            f"it has {', '.join(f'`{n}`' for n in sorted(own)) or 'none'}."
        )
