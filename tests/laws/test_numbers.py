"""Every number that a constructor takes has a range, and a number outside of it is refused by name."""

import functools as ft
import math
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metaopt
from metaopt import ClipByGlobalNorm
from metaopt._core.arrays._numbers import COUNT, DECAY, LIMIT, POSITIVE, REAL, check_counts
from metaopt.registry import DEFAULT
from metaopt.spec import SpecError
from metaopt.spec._hints import readable
from metaopt.spec._registry import entry_parameters
from tests.test_registry import ENTRIES, REQUIRED

from .algorithms import EXAMPLES


# Options of which any number is right, with the reason; a new option is not among them unless somebody says so here.
FREE = {
    "seed": "a seed",
    "smallest": "a threshold in elements: below 1 it holds for all",
    "unroll": "a threshold in tiles: below 1 it holds for none",
    "axis": "an index",
    "index": "an index, which is checked against the number of objectives",
}
# Options whose sign is free, so that -1 is no mistake; NaN still is.
SIGNED = {
    *("chebyshev.ideal", "pbi.ideal", "weighted_sum.weights", "epsilon_constraint.bounds", "per_parameter_sgd.rates"),
    *("polyak.lowest", "regret.lowest", "time_to_target.target", "normalized.floor", "sparse_coding.snr_db"),
    *("recurrent_controller.orthogonality", "surrogate.coulomb", "surrogate.exchange", "steered.choices"),
    *(
        "box.lower",
        "interval.lower",
        "rectangle.lower",
        "rectangular.lower",
        "disk.center",
        "space_time.start",
        "space_time.end",
    ),
    *("rescaled_inputs.lower", "rescaled_inputs.upper", "rescaled_inputs.scale", "polygon.corners", "data.points"),
    *("data.targets", "dirichlet.at", "dirichlet.value", "neumann.value", "robin.value", "robin.alpha", "robin.beta"),
    *("initial.value", "initial.rate", "hard_boundary.distance", "hard_boundary.extension", "soft_adapt.beta"),
    *("poisson.source", "helmholtz.source", "darcy.source", "heat.source", "wave.source", "advection_diffusion.source"),
    *("burgers.source", "allen_cahn.source", "schrodinger.source", "navier_stokes.source", "wave.speed"),
    *("advection_diffusion.velocity", "allen_cahn.reaction", "eigenproblem.potential", "eigenproblem.energy"),
    *("schrodinger.potential", "schrodinger.nonlinearity", "helmholtz.wave_number"),
    *("function_approximation.slope", "function_approximation.importances", "function_approximation.instances"),
    *("sigmoid.slope", "log_rate.low", "log_rate.high", "rate_and_momentum.low", "rate_and_momentum.high"),
}


def _numbers(kind: Any, name: str) -> dict[str, tuple[str, Any]]:
    """The options of an entry that take numbers, with the type in words and the default."""
    named = entry_parameters(kind, DEFAULT.get(kind, name)).named
    words = {option: (readable(hint), default) for option, (hint, default) in named.items()}
    return {option: text for option, text in words.items() if re.search(r"\b(int|float|number)\b", text[0])}


def _with(bad: float, start: Any) -> Any:
    """A number, or the last of several, that is bad."""
    if isinstance(start, list | tuple) and start:
        return [*start[:-1], _with(bad, start[-1])]
    return bad


def _given(name: str) -> dict[str, Any]:
    """What the entry cannot do without, with algorithms that are built already."""
    given = REQUIRED.get(name, {})
    return {option: _algorithm(value) if value in ("adam", "sgd") else value for option, value in given.items()}


@ft.cache
def _algorithm(name: str) -> metaopt.AbstractAlgorithm[Any, Any, Any]:
    return metaopt.build(name, metaopt.AbstractAlgorithm)


def test_lists_name_what_exists() -> None:
    known = {f"{name}.{option}" for kind, name in ENTRIES for option in _numbers(kind, name)}
    assert SIGNED <= known
    assert set(FREE) <= {word.partition(".")[2] for word in known}


# Algorithms are most of the time.
_FAST = {*EXAMPLES, "clip_by_global_norm", "cyclic_restarts"}
_MARKED = [
    pytest.param(*entry, marks=[pytest.mark.slow] * (entry[0] is metaopt.AbstractAlgorithm and entry[1] not in _FAST))
    for entry in ENTRIES
]


@pytest.mark.parametrize(("kind", "name"), _MARKED)
def test_numbers_out_of_range_are_refused_by_name(kind: Any, name: str) -> None:
    given = _given(name)
    for option, (text, default) in _numbers(kind, name).items():
        if option in FREE:
            continue
        whole = re.fullmatch(r"(int|tuple\[int, \.\.\.\])( \| None)?", text)
        bads = ([] if whole else [math.nan]) + ([] if f"{name}.{option}" in SIGNED else [-1 if whole else -1.0])
        for bad in bads:
            wrong = given | {option: _with(bad, given.get(option, default))}
            with pytest.raises(SpecError) as caught:
                metaopt.build({"name": name, **wrong}, kind)
            assert option in str(caught.value), (option, bad)


# Numbers that are of the right sign, and too large or too small.
BEYOND = {
    "adam": {"b1": 1.0, "b2": 1.5},
    "momentum": {"decay": 1.0},
    "clip_by_global_norm": {"max_norm": 0.0},
    "backtracking": {"shrinkage": 1.0, "slope": 2.0},
    "bold_driver": {"growth": 0.5, "reduction": 2.0, "frequency": 1.5},
    "plateau": {"reduction": 1.5, "window": 0},
    "cosine": {"horizon": 0, "final_fraction": 1.5},
    "rnn_prop": {"b1": 1.0, "hidden_size": 0},
    "celo2": {"rate": 0.0, "rate ": math.inf},
}


@pytest.mark.parametrize("name", BEYOND)
def test_numbers_beyond_an_end_are_refused(name: str) -> None:
    for option, bad in BEYOND[name].items():
        with pytest.raises(SpecError, match=f"`{option.strip()}` must be .*, but {bad} was given"):
            metaopt.build({"name": name, **_given(name), option.strip(): bad}, metaopt.AbstractAlgorithm)


@pytest.mark.parametrize("kind", [jnp.asarray, np.float32, np.asarray, float])
def test_arrays_are_looked_at(kind: Any) -> None:
    with pytest.raises(ValueError, match="`max_norm` must be positive .*, but -0.5 was given"):
        ClipByGlobalNorm(_algorithm("sgd"), kind(-0.5))
    with pytest.raises(ValueError, match="`max_norm` .* nan was given"):
        ClipByGlobalNorm(_algorithm("sgd"), kind(math.nan))


def test_traced_numbers_pass() -> None:
    def norm(x: Any) -> Any:
        return ClipByGlobalNorm(_algorithm("sgd"), x).max_norm

    limits = jnp.asarray([-1.0, 2.0])
    assert jnp.all(jax.vmap(norm)(limits) == limits)
    assert jax.jit(norm)(-1.0) == -1.0
    assert jax.grad(norm)(2.0) == 1.0
    # What learning makes of an algorithm is nobody's mistake.
    learned = eqx.tree_at(lambda rule: rule.max_norm, ClipByGlobalNorm(_algorithm("sgd"), math.inf), jnp.asarray(-1.0))
    assert learned.max_norm == -1


def test_ranges() -> None:
    COUNT.check(a=1, b=np.int64(3), c=(1, 2), d=None, e="text", f=jnp.arange(1, 3), g=2.0)
    REAL.check(a=-1e30, b=jnp.asarray(2.0, jnp.bfloat16), c=lambda x: x)
    LIMIT.check(a=math.inf, b=1e-30)
    for name, wanted, bad in (
        ("a", COUNT, 0),
        ("b", COUNT, 1.5),
        ("c", COUNT, (2, 0)),
        ("d", REAL, math.inf),
        ("e", REAL, jnp.asarray([0.0, math.nan])),
        ("f", DECAY, 1),
        ("g", POSITIVE, jnp.asarray(-2.0, jnp.bfloat16)),
        ("h", LIMIT, 0.0),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be "):
            wanted.check(**{name: bad})
    with pytest.raises(ValueError, match="`steps` must be at least 1, but -3 was given"):
        check_counts(steps=-3)


def test_infinity_is_said_to_be_the_matter() -> None:
    with pytest.raises(ValueError, match="`rate` must be finite, but inf was given"):
        POSITIVE.check(rate=math.inf)
    with pytest.raises(ValueError, match="`rate` must be positive, but -inf was given"):
        POSITIVE.check(rate=-math.inf)
