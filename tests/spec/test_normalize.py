"""A spec written out in full describes the same object, and can be stored."""

import json
import tomllib
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from metaopt.spec import SpecError, build, dumps, normalize
from tests.spec._examples import REGISTRY, AbstractFamily, AbstractRule, Clipped, Everything, Gradient, Network, Run


def full(spec: Any, kind: type = AbstractRule) -> dict[str, Any]:
    return normalize(spec, kind, registry=REGISTRY)


def test_names_become_tables_with_defaults() -> None:
    assert full("gradient") == {"name": "gradient", "rate": 0.1, "nesterov": False}
    assert full({"rule": "network", "family": {"name": "bowls", "sizes": (1, 2)}}, Run) == {
        "rule": {"name": "network", "hidden_size": 4},
        "family": {"name": "bowls", "sizes": [1, 2], "center": 0.0, "matrix": [[1.0, 0.0], [0.0, 1.0]]},
        "steps": 100,
    }


def test_values_take_their_type() -> None:
    spec = {
        "name": "chain",
        "stages": [{"name": "network", "activation": "tanh", "key": 3}, {"name": "gradient", "rate": 1}],
        "weights": np.asarray([1, 2]),
    }
    first, second = full(spec)["stages"]
    assert first == {"name": "network", "hidden_size": 4, "activation": {"name": "tanh"}, "key": 3}
    assert type(second["rate"]) is float
    assert full(spec)["weights"] == [1.0, 2.0]


def test_nothing_is_kept_where_it_is_not_the_default() -> None:
    spec = full({"name": "clipped", "inner": "gradient", "limit": None})
    assert spec["limit"] is None
    made = build(tomllib.loads(dumps(spec)), AbstractRule, registry=REGISTRY)
    assert isinstance(made, Clipped) and made.limit is None
    words = full({"maybe_word": None}, Everything)
    assert build(tomllib.loads(dumps(words)), Everything, registry=REGISTRY).maybe_word is None


def test_arrays_become_lists() -> None:
    assert full({"name": "gradient", "rate": jnp.asarray(0.5)})["rate"] == 0.5
    half = {"name": "gradient", "rate": jnp.asarray(0.5, jnp.float16)}
    made = build(half, AbstractRule, registry=REGISTRY)
    assert isinstance(made, Gradient) and made.rate.dtype == jnp.float16
    with pytest.raises(SpecError, match="^rate: Array.* is a Python object, which plain data cannot describe."):
        full(half)
    with pytest.raises(SpecError, match="^weights: "):
        full({"name": "chain", "stages": [], "weights": jnp.zeros((0,), jnp.float16)})


@pytest.mark.parametrize("value", [Network(), {"name": "clipped", "inner": Network()}])
def test_objects_cannot_be_written(value: Any) -> None:
    with pytest.raises(SpecError, match="is a Python object, which plain data cannot describe."):
        full(value)


def test_nothing_is_made() -> None:
    assert full({"name": "clipped", "inner": "broken"})["inner"] == {"name": "broken"}


finite = st.floats(-1e6, 1e6, width=32)
seeds = st.integers(0, 2**31 - 1)
activations = st.sampled_from(["relu", "tanh", {"name": "tanh"}])
leaves = st.one_of(
    st.sampled_from(["gradient", "network", "lazy"]),
    st.fixed_dictionaries(
        {"name": st.just("gradient")},
        optional={"rate": st.one_of(finite, st.integers(-100, 100)), "nesterov": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"name": st.just("network")},
        optional={"hidden_size": st.integers(1, 4), "activation": activations, "key": st.none() | seeds},
    ),
    st.fixed_dictionaries(
        {"name": st.just("named"), "rate": finite},
        optional={"others": st.none() | st.dictionaries(st.text(max_size=3), finite, max_size=3)},
    ),
    st.fixed_dictionaries({"name": st.just("open_ended"), "a": st.integers(1, 2)}, optional={"b": st.integers(0, 2)}),
)
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"name": st.just("chain"), "stages": st.lists(inner, max_size=3)},
            optional={"weights": st.none() | st.lists(finite, max_size=3)},
        ),
        st.fixed_dictionaries(
            {"name": st.just("clipped"), "inner": inner},
            optional={"limit": st.none() | finite, "mode": st.sampled_from(["norm", "value", 2])},
        ),
    ),
    max_leaves=5,
)
families = st.fixed_dictionaries(
    {"name": st.just("bowls"), "sizes": st.lists(st.integers(0, 9), max_size=3)},
    optional={"center": finite | st.lists(finite, max_size=3), "data": st.text("ab/", max_size=3)},
)
runs = st.fixed_dictionaries({"rule": rules, "family": families}, optional={"steps": st.integers(0, 2**62)})


def same(left: Any, right: Any) -> bool:
    return all(eqx.tree_equal(getattr(left, f), getattr(right, f), typematch=True) for f in ("rule", "family", "steps"))


@given(runs)
def test_round_trip(spec: Any) -> None:
    written = full(spec, Run)
    made = build(spec, Run, registry=REGISTRY)
    assert full(written, Run) == written
    assert same(build(written, Run, registry=REGISTRY), made)
    assert json.loads(json.dumps(written)) == written
    assert same(build(tomllib.loads(dumps(written)), Run, registry=REGISTRY), made)


def test_families_alone() -> None:
    spec = {"name": "bowls", "sizes": []}
    made = build(full(spec, AbstractFamily), AbstractFamily, registry=REGISTRY)
    assert eqx.tree_equal(made, build(spec, AbstractFamily, registry=REGISTRY), typematch=True)
