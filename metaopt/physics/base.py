"""What the parts of a physics-informed problem are."""

import abc
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._core import AbstractAlgorithm
from ._objective import Objective
from .fields._jets import Jet, Rows


S = TypeVar("S")
P = TypeVar("P")


class AbstractSampler(eqx.Module):
    """A way to spread points over the unit cube."""

    @abc.abstractmethod
    def unit(self, count: int, dimension: int, *, key: PRNGKeyArray) -> Float[Array, "{count} {dimension}"]:
        """Points of the unit cube."""


class Points(eqx.Module):
    """Where a term is evaluated. Every array has a leading axis over points."""

    x: Float[Array, "n d"]
    normals: Float[Array, "n d"] | None = None
    partners: Float[Array, "n d"] | None = None
    targets: Float[Array, "n m"] | None = None


class AbstractDomain(eqx.Module):
    """A set of points with a boundary. In a domain of space and time, time is the last coordinate."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """The number of coordinates, time included."""

    @property
    @abc.abstractmethod
    def transient(self) -> bool:
        """Whether there is time."""

    @abc.abstractmethod
    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The lower and the upper corner of a box that holds the domain."""

    @abc.abstractmethod
    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Negative inside, zero on the boundary, positive outside; near the boundary about the distance to it."""

    @abc.abstractmethod
    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        """Draw interior points."""

    @abc.abstractmethod
    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        """Draw points of the boundary with outward unit normals."""

    def contains(self, points: Float[Array, "n d"]) -> Bool[Array, " n"]:
        """Which points lie inside."""
        return self.level(points) < 0


class AbstractField(eqx.Module):
    """A function from parameters and points to outputs, that carries derivatives along.

    It has no leaves that are trained: the parameters are the task's.
    """

    @property
    @abc.abstractmethod
    def inputs(self) -> int:
        """The number of coordinates."""

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """The number of unknown functions."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Any:
        """Draw parameters."""

    @abc.abstractmethod
    def push(self, params: Any, jet: Jet) -> Jet:
        """The outputs and their derivatives, of inputs and their derivatives."""

    def apply(self, params: Any, points: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        """The outputs alone."""
        return self.push(params, Jet.constant(points)).value


class AbstractResidual(eqx.Module):
    """A differential equation, written as what must vanish."""

    @abc.abstractmethod
    def outputs(self, dimension: int) -> int:
        """How many unknown functions there are, in a domain of this dimension (time included)."""

    @abc.abstractmethod
    def rows(self, dimension: int) -> Rows:
        """The second derivatives that are needed."""

    @abc.abstractmethod
    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        """What must vanish at each point."""


@runtime_checkable
class Evaluate(Protocol):
    """The unknown functions of a problem at some points, with derivatives up to an order."""

    def __call__(self, points: Float[Array, "n d"], *, order: int = 0, rows: Rows = ()) -> Jet: ...


class AbstractTerm(eqx.Module):
    """A part of a physics-informed loss: the mean square of something that must vanish at each of some points."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What errors call it."""

    @abc.abstractmethod
    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        """Draw the points at which the term is evaluated."""

    @abc.abstractmethod
    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        """What must vanish."""


class AbstractBalancing(eqx.Module):
    """A rule that weighs the terms of a loss while it is minimized."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray | None = None) -> Any:
        """Make the state."""

    @abc.abstractmethod
    def weights(self, state: Any, signal: Objective, params: Any) -> tuple[Any, tuple[Float[Array, "..."], ...]]:
        """The new state, and a factor for each term: one number, or one for each of its points."""


class AbstractSolver(AbstractAlgorithm[S, P, Objective]):
    """An algorithm whose signal is the objective itself, so that it may ask for residuals, Jacobians or other values.

    Run it on `AsObjective(task)`, which gives this signal.
    """


class AbstractResampling(eqx.Module):
    """A rule that moves interior points to where the residual is large."""

    @abc.abstractmethod
    def resample(self, task: Any, params: Any, *, key: PRNGKeyArray) -> Any:
        """The task with new interior points."""


Pointwise = Callable[[Float[Array, "n d"]], Float[Array, "..."]]
