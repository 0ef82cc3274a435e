"""The optimizers that a learned one is compared with."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import optax
from jaxtyping import ScalarLike

from .._core import AbstractAlgorithm, from_optax
from ..schedules import Cosine


Baseline = Callable[[ScalarLike], AbstractAlgorithm[Any, Any, Any]]


def _sgd(rate: ScalarLike) -> AbstractAlgorithm[Any, Any, Any]:
    return from_optax(optax.sgd, learning_rate=rate)


def _momentum(rate: ScalarLike) -> AbstractAlgorithm[Any, Any, Any]:
    return from_optax(optax.sgd, learning_rate=rate, momentum=0.9)


def _adam(rate: ScalarLike) -> AbstractAlgorithm[Any, Any, Any]:
    return from_optax(optax.adam, learning_rate=rate)


def _adamw(rate: ScalarLike) -> AbstractAlgorithm[Any, Any, Any]:
    return from_optax(optax.adamw, learning_rate=rate)


def _adam_cosine(rate: ScalarLike) -> AbstractAlgorithm[Any, Any, Any]:
    return Cosine(_adam(rate))


BASELINES: Mapping[str, Baseline] = types.MappingProxyType(
    {"sgd": _sgd, "momentum": _momentum, "adam": _adam, "adamw": _adamw, "adam_cosine": _adam_cosine}
)
"""The baselines that [`metaopt.evaluate.compare`][] knows by name: functions from a learning rate to an algorithm."""
