"""The table of algorithms that the laws are about, and how each is built."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import metaopt
from metaopt.multiobjective import AbstractCombiner, Gradients, PreferenceConditioned, SharedCurvature
from metaopt.registry import DEFAULT, build
from tests._cases import fast


# By their names in the registry. Networks are small, so that they compile fast; what wraps an algorithm wraps Adam.
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"nesterov": True},
    "adam": {},
    "adamw": {},
    "clip_by_global_norm": {"inner": "adam", "max_norm": 0.5},
    "skip_non_finite": {"inner": "adam"},
    "weight_decay": {"inner": "adam"},
    "cosine": {"inner": "adam", "warmup_fraction": 0.01},
    "linear_decay": {"inner": "adam"},
    "exponential": {"inner": "adam", "period": 10},
    "cyclic_restarts": {"inner": "adam", "period": 3, "final_fraction": 0.1},
    "plateau": {"inner": "adam", "patience": 0, "threshold": 0.5},
    "bold_driver": {"inner": "adam", "frequency": 1, "threshold": 0.5},
    "polyak": {"inner": "adam"},
    "backtracking": {"inner": "adam"},
    "noise_aware": {"noisy": "adam", "exact": "sgd"},
    "hypergradient": {"inner": "adam"},
    "learned_schedule": {"inner": "adam", "hidden_size": 4},
    "policy": {"inner": "adam", "control": {"name": "rate_multipliers", "factors": [0.9, 1.1]}},
    "controller": {"hidden_size": 4},
    "recurrent_controller": {"hidden_size": 4, "iterations": 2},
    "preconditioned_descent": {"steps": 3, "momentum": 0.1},
    "learnable_sgd": {},
    "learnable_adam": {},
    "nn_adam": {"hidden_size": 4},
    "mlp": {"hidden_size": 4},
    "adafac_mlp": {"hidden_size": 4},
    "lstm": {"hidden_size": 4},
    "rnn_prop": {"hidden_size": 4},
    "celo": {"scheduler_size": 4},
    "celo_adam": {"scheduler_size": 4},
    "celo2": {"hidden_size": 4},
    "velo": {"scheduler_size": 4, "bank_size": 3, "mix_scale": 3.0, "direction_scale": 0.1},
    "safeguarded": {"inner": "adam", "fallback": "sgd"},
    "loss_guarded": {"inner": "adam", "fallback": "sgd"},
    "baseline_guarded": {"inner": "adam", "fallback": "sgd", "curve": [2.0, 1.5, 1.0]},
    "decay_to_start": {"inner": "adam"},
    "proximal": {"inner": "adam"},
    "only_parts": {"inner": "adam", "parts": "*"},
    "per_parameter_sgd": {},
    "ewc": {"inner": "adam", "rate": 0.1},
    "weighted_sum": {"inner": "adam", "weights": [0.7, 0.3]},
    "chebyshev": {"inner": "adam", "smoothing": 0.5},
    "pbi": {"inner": "adam"},
    "epsilon_constraint": {"inner": "adam", "bounds": [1.0, 1.0]},
    "mgda": {"inner": "adam"},
    "pcgrad": {"inner": "adam"},
    "cagrad": {"inner": "adam"},
    "nash_mtl": {"inner": "adam"},
    "upgrad": {"inner": "adam"},
    "imtl_g": {"inner": "adam"},
    "random_weighting": {"inner": "adam"},
    "preference_conditioned": {"inner": "adam", "hidden_size": 4},
    "shared_curvature": {"inner": {"name": "weighted_sum", "inner": "adam"}, "hidden_size": 4},
}

# One of each kind: what compiles for long is tested for these by `nox -s tests`, and for all of them by `nox -s slow`.
EXAMPLES = {
    "sgd",
    "cosine",
    "mlp",
    "lstm",
    "safeguarded",
    "mgda",
    "random_weighting",
}
# Of these laws are fast that compile much: networks are among them, and combiners.
_FEW = EXAMPLES - {"cosine", "mlp", "random_weighting"}
FEW = fast(OPTIONS.keys(), *_FEW)
NAMES = fast(OPTIONS.keys(), *EXAMPLES)

# Those that lower the loss of a small network as they are built, without being trained.
DESCENDING = {
    "sgd",
    "momentum",
    "adam",
    "adamw",
    "clip_by_global_norm",
    "skip_non_finite",
    "weight_decay",
    "cosine",
    "policy",
    "linear_decay",
    "exponential",
    "cyclic_restarts",
    "plateau",
    "bold_driver",
    "polyak",
    "backtracking",
    "noise_aware",
    "hypergradient",
    "learned_schedule",
    "controller",
    "recurrent_controller",
    "preconditioned_descent",
    "learnable_sgd",
    "learnable_adam",
    "nn_adam",
    "celo_adam",
    "safeguarded",
    "loss_guarded",
    "baseline_guarded",
    "decay_to_start",
    "proximal",
    "only_parts",
    "per_parameter_sgd",
    "ewc",
    "weighted_sum",
    "chebyshev",
    "epsilon_constraint",
    "mgda",
    "pcgrad",
    "cagrad",
    "upgrad",
    "random_weighting",
    "preference_conditioned",
    "shared_curvature",
}

# Those whose steps cannot do without the loss.
NEEDS_VALUE = {
    "safeguarded",
    "loss_guarded",
    "baseline_guarded",
    "plateau",
    "bold_driver",
    "polyak",
    "backtracking",
    "noise_aware",
    "learned_schedule",
}


class Doubled(metaopt.AbstractAlgorithm[Any, Any, Any]):
    """A combiner that is given one gradient, as other algorithms are: with another one that it half agrees with."""

    combiner: AbstractCombiner | PreferenceConditioned | SharedCurvature

    def init(self, params: Any, *, key: Any = None) -> Any:
        return self.combiner.init(params, key=key)

    def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> tuple[Any, Any]:
        def pair(g: Any) -> Any:
            return jnp.stack([g, 0.5 * g + 0.3 * jnp.roll(g, 1)])

        values = None if isinstance(self.combiner, SharedCurvature) else jnp.asarray([1.0, 1.2])
        return self.combiner.step(state, params, Gradients(jtu.tree_map(pair, grads), values), value=value)


class Peopled(metaopt.AbstractAlgorithm[Any, Any, Any]):
    """The algorithm of a population that is given one member's parameters and gradient, as other algorithms are.

    Two more members, which stay apart, are in the state.
    """

    population: Doubled

    def init(self, params: Any, *, key: Any = None) -> Any:
        members = jtu.tree_map(_three, params)
        return self.population.init(members, key=key), members

    def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> tuple[Any, Any]:
        inner, members = state
        put = lambda members, x: members.at[0].set(x) if eqx.is_inexact_array(x) else members  # noqa: E731
        members = jtu.tree_map(put, members, params)
        inner, members = self.population.step(inner, members, jtu.tree_map(_three, grads), value=value)
        first = lambda members, x: members[0] if eqx.is_inexact_array(x) else x  # noqa: E731
        return (inner, members), jtu.tree_map(first, members, params)


def _three(x: Any) -> Any:
    return jnp.stack([x, 1.5 * x + 0.1, 0.5 * x - 0.2]).astype(x.dtype) if eqx.is_inexact_array(x) else x


@ft.cache
def _built(name: str, x64: bool) -> metaopt.AbstractAlgorithm:
    del x64  # an algorithm that is built in double precision is another one
    algorithm = build({"name": name, **OPTIONS[name]}, metaopt.AbstractAlgorithm, registry=DEFAULT)
    if isinstance(algorithm, SharedCurvature):
        return Peopled(Doubled(algorithm))
    return Doubled(algorithm) if isinstance(algorithm, AbstractCombiner | PreferenceConditioned) else algorithm


def make(name: str) -> metaopt.AbstractAlgorithm:
    """Build an algorithm of the table."""
    return _built(name, jax.config.read("jax_enable_x64"))
