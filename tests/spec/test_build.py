"""Specs become objects."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.spec import build
from tests.spec._examples import (
    REGISTRY,
    AbstractFamily,
    AbstractRule,
    Bowls,
    Chain,
    Clipped,
    Color,
    Everything,
    Gradient,
    Limits,
    Network,
    Run,
)


def make(spec: Any, kind: Any = AbstractRule) -> Any:
    return build(spec, kind, registry=REGISTRY)


def field(value: Any, name: str) -> Any:
    return getattr(make({name: value}, Everything), name)


RULES = {
    "name": ("gradient", lambda: Gradient()),
    "table": ({"name": "gradient"}, lambda: Gradient()),
    "options": ({"name": "gradient", "rate": 0.5, "nesterov": True}, lambda: Gradient(0.5, True)),
    "integer": ({"name": "gradient", "rate": 2}, lambda: Gradient(2.0)),
    "lazy": ("lazy", lambda: Gradient()),
    "function": ({"name": "named", "rate": 1}, lambda: Gradient(1.0)),
    "table option": ({"name": "named", "rate": 1, "others": {"a": 2}}, lambda: Gradient(3.0)),
    "open": ({"name": "open_ended", "a": 2, "b": 3}, lambda: Network(5)),
    "seed": ({"name": "network", "key": 3}, lambda: Network(key=jr.key(3))),
    "callable": ({"name": "network", "activation": "tanh"}, lambda: Network(activation=jnp.tanh)),
    "callable table": ({"name": "network", "activation": {"name": "tanh"}}, lambda: Network(activation=jnp.tanh)),
    "nested": (
        {"name": "chain", "stages": ["gradient", {"name": "clipped", "inner": "network"}], "weights": [1, 2.5]},
        lambda: Chain((Gradient(), Clipped(Network())), jnp.asarray([1.0, 2.5])),
    ),
    "none": ({"name": "clipped", "inner": "gradient", "limit": None}, lambda: Clipped(Gradient(), None)),
    "word for none": ({"name": "clipped", "inner": "gradient", "limit": "none"}, lambda: Clipped(Gradient(), None)),
    "choice": ({"name": "clipped", "inner": "gradient", "mode": 2}, lambda: Clipped(Gradient(), mode=2)),
}


@pytest.mark.parametrize("case", RULES.values(), ids=RULES.keys())
def test_rules(case: tuple[Any, Any]) -> None:
    spec, wanted = case
    assert eqx.tree_equal(make(spec), wanted(), typematch=True)


def test_the_spec_stays_as_it_is() -> None:
    spec = {"name": "chain", "stages": [{"name": "gradient", "rate": 1}]}
    make(spec)
    assert spec == {"name": "chain", "stages": [{"name": "gradient", "rate": 1}]}


def test_objects_pass_through() -> None:
    rule = Network()
    assert make(rule) is rule
    assert make({"name": "chain", "stages": (rule, "gradient")}).stages[0] is rule
    assert make({"name": "network", "activation": jnp.sin}).activation is jnp.sin


def test_arrays() -> None:
    bowls = make({"name": "bowls", "sizes": [1, 2], "center": [[1, 2]], "matrix": [[1], [2]]}, AbstractFamily)
    wanted = Bowls((1, 2), jnp.asarray([[1.0, 2.0]]), jnp.asarray([[1.0], [2.0]]))
    assert eqx.tree_equal(bowls, wanted, typematch=True)
    assert bowls.sizes == (1, 2) and bowls.data == Path("digits")
    given = np.asarray([[1.0], [2.0]], np.float32)
    assert (make({"name": "bowls", "sizes": [], "matrix": given}, AbstractFamily).matrix == given).all()
    assert make({"name": "bowls", "sizes": []}, AbstractFamily).matrix.dtype == jnp.result_type(float)
    empty = make({"name": "chain", "stages": [], "weights": []})
    assert empty.weights.shape == (0,) and empty.weights.dtype == jnp.result_type(float)


def test_traced_arrays_pass_through() -> None:
    @jax.grad
    def slope(rate: jax.Array) -> jax.Array:
        return make({"name": "gradient", "rate": rate}).rate ** 2

    assert slope(jnp.asarray(3.0)) == 6.0


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("flag", False, False),
        ("flag", np.bool_(False), False),
        ("count", np.int32(7), 7),
        ("ratio", 3, 3.0),
        ("ratio", 10**30, 1e30),
        ("ratio", np.float32(0.5), 0.5),
        ("ratio", float("inf"), float("inf")),
        ("path", "a/b", Path("a/b")),
        ("maybe_word", "none", None),
        ("maybe_word", "some", "some"),
        ("number", 2, 2),
        ("number", 2.0, 2.0),
        ("pair", [3, "b"], (3, "b")),
        ("several", 2, 2.0),
        ("several", (1, 2), [1.0, 2.0]),
        ("table", {"a": 1}, {"a": 1}),
        ("sequence", [3], (3,)),
        ("limits", {"low": 0}, Limits(0.0)),
        ("rule_or_rate", 1, 1.0),
        ("anything", {"a": [1, {"b": (None,)}]}, {"a": [1, {"b": (None,)}]}),
        ("tree", {"a": [1.5]}, {"a": [1.5]}),
        ("color", Color.RED, Color.RED),
    ],
)
def test_types(name: str, given: Any, wanted: Any) -> None:
    made = field(given, name)
    assert made == wanted and type(made) is type(wanted)


def test_array_types() -> None:
    ints, bools = field([1, 2], "ints"), field([[True, False]], "bools")
    assert isinstance(ints, jax.Array) and jnp.issubdtype(ints.dtype, jnp.integer)
    assert isinstance(bools, np.ndarray) and bools.dtype == bool
    assert field([], "ints").dtype == ints.dtype
    assert jr.key_data(field(5, "seed")).tolist() == jr.key_data(jr.key(5)).tolist()
    assert isinstance(field("gradient", "rule_or_rate"), Gradient)
    assert np.isnan(field(float("nan"), "ratio"))


def test_any_annotation_can_be_built() -> None:
    assert make(["gradient"], list[AbstractRule])[0].nesterov is False
    assert make(None, AbstractRule | None) is None


def test_a_run_is_a_dataclass() -> None:
    run = make({"rule": "network", "family": {"name": "bowls", "sizes": [2]}}, Run)
    assert isinstance(run, Run) and isinstance(run.rule, Network) and run.steps == 100
