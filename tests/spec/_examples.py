"""A small world of things to name: update rules, families of tasks, and a run of both."""

import abc
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from beartype import beartype
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, jaxtyped

from metaopt.spec import Registry


S = TypeVar("S")
Sizes = tuple[int, ...]


def as_float(x: Any) -> Array:
    return jnp.asarray(x, float)


def as_array(x: ArrayLike) -> Array:
    return jnp.asarray(x)


class AbstractRule(eqx.Module, Generic[S]):
    @abc.abstractmethod
    def step(self, x: S) -> S: ...


class Gradient(AbstractRule[Any]):
    """Go down. A second sentence."""

    rate: Float[Array, ""] = eqx.field(default=0.1, converter=jnp.asarray)
    nesterov: bool = eqx.field(static=True, default=False)

    def step(self, x: Any) -> Any:
        return x


class Network(AbstractRule[Any]):
    """A learned rule

    with a title for a docstring.
    """

    weights: Float[Array, "hidden_size"]
    hidden_size: int = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        hidden_size: int = 4,
        *,
        activation: Callable[[Array], Array] = jax.nn.relu,
        key: PRNGKeyArray | None = None,
    ):
        if hidden_size < 1:
            raise ValueError("`hidden_size` must be positive.")
        self.weights = jr.normal(jr.key(0) if key is None else key, (hidden_size,))
        self.hidden_size = hidden_size
        self.activation = activation

    def step(self, x: Any) -> Any:
        return x


class Chain(AbstractRule[Any]):
    stages: tuple[AbstractRule[Any], ...]
    weights: Float[Array, "stages"] | None = None

    def step(self, x: Any) -> Any:
        return x


class Clipped(AbstractRule[Any]):
    inner: AbstractRule[Any]
    limit: float | None = 1.0
    mode: Literal["norm", "value", 2] = eqx.field(static=True, default="norm")

    def step(self, x: Any) -> Any:
        return x


@jaxtyped(typechecker=beartype)
class Checked(AbstractRule[Any]):
    """Two arrays whose sizes must agree: only a run-time type checker sees that they do not."""

    left: Float[Array, "n"]
    right: Float[Array, "n"]

    def __init__(self, left: Float[Array, "n"], right: Float[Array, "n"]):
        self.left, self.right = left, right

    def step(self, x: Any) -> Any:
        return x


def named(rate: float, others: dict[str, float] | None = None) -> AbstractRule[Any]:
    """Make a gradient rule of the sum of some rates."""
    return Gradient(rate + sum((others or {}).values()))


def open_ended(**options: int) -> AbstractRule[Any]:
    return Network(sum(options.values()))


def wrong_kind() -> Any:
    return 3


def broken() -> AbstractRule[Any]:
    raise ZeroDivisionError("by design")


class AbstractFamily(eqx.Module):
    @abc.abstractmethod
    def sample(self) -> Array: ...


class Bowls(AbstractFamily):
    sizes: Sizes = eqx.field(static=True)
    center: Float[Array, "..."] = eqx.field(default=0.0, converter=as_array)
    matrix: Float[Array, "2 n"] = eqx.field(default=((1, 0), (0, 1)), converter=as_float)
    data: Path = eqx.field(static=True, default=Path("digits"))

    def sample(self) -> Array:
        return self.center


class Limits(NamedTuple):
    low: float
    high: float = 1.0


class Color(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Everything:
    """One option of each type."""

    flag: bool = True
    count: int = 1
    ratio: float = 0.5
    word: str = "w"
    path: Path = Path(".")
    maybe_word: str | None = "x"
    number: int | float = 1
    pair: tuple[int, str] = (1, "a")
    several: list[float] | float = 0.5
    table: Mapping[str, int] | None = None
    sequence: Sequence[int] = (1, 2)
    limits: Limits | None = None
    ints: Int[Array, "n"] | None = None
    bools: Bool[np.ndarray, "n m"] | None = None
    seed: PRNGKeyArray | None = None
    rule_or_rate: AbstractRule[Any] | float = 0.1
    anything: Any = None
    tree: PyTree[Float[Array, "..."]] = None
    color: Color = Color.RED


@dataclass(frozen=True)
class Run:
    rule: AbstractRule[Any]
    family: AbstractFamily
    steps: int = 100


REGISTRY = Registry.of(
    {
        AbstractRule: {
            "gradient": Gradient,
            "network": Network,
            "chain": Chain,
            "clipped": Clipped,
            "checked": Checked,
            "named": named,
            "open_ended": open_ended,
            "wrong_kind": wrong_kind,
            "broken": broken,
            "lazy": f"{__name__}:Gradient",
            "missing": "no_such_module_anywhere:Rule",
            "absent": f"{__name__}:NoSuchRule",
        },
        AbstractFamily: {"bowls": Bowls},
        Callable: {"relu": jax.nn.relu, "tanh": jnp.tanh},
    }
)
