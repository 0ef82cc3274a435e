"""Every wrong spec gives one error that says where, what was given, what was wanted and what was probably meant."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, strategies as st

from metaopt.spec import Registry, SpecError, build, normalize
from tests.spec._examples import REGISTRY, AbstractFamily, AbstractRule, Everything, Gradient, Run


def error(spec: Any, kind: Any = AbstractRule) -> SpecError:
    with pytest.raises(SpecError) as caught:
        build(spec, kind, registry=REGISTRY)
    return caught.value


def loop() -> dict[str, Any]:
    spec: dict[str, Any] = {"name": "clipped"}
    spec["inner"] = spec
    return spec


def nested_loop() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


TEXTS = {
    "typo in option": (
        {"name": "chain", "stages": ["gradient", {"name": "network", "hidden_sise": 3}]},
        "stages[1].hidden_sise: `network` has no such option. Did you mean `hidden_size`?",
    ),
    "unlike any option": (
        {"name": "gradient", "zzz": 1},
        "zzz: `gradient` has no such option. It has `rate`, `nesterov`.",
    ),
    "no options at all": ({"name": "broken", "zzz": 1}, "zzz: `broken` has no such option. It has none."),
    "option of a value": (
        {"name": "network", "activation": {"name": "tanh", "slope": 1}},
        "activation.slope: `tanh` has no such option. It has none.",
    ),
    "missing option": ({"name": "chain"}, "stages: missing: `chain` needs it, as `tuple[AbstractRule, ...]`."),
    "missing name": ({}, "name: missing: which `AbstractRule`? There are `absent`, `broken`, "),
    "name of the wrong type": ({"name": 3}, "name: expected `str`, given 3."),
    "typo in a short name": (
        {"name": "clipped", "inner": "gradeint"},
        "inner: 'gradeint' is not the name of any `AbstractRule`; there are `absent`, `broken`, ",
    ),
    "typo in a name": ({"name": "GRADIENT"}, "name: 'GRADIENT' is not the name of any `AbstractRule`; there are "),
    "no table": (3, "expected `AbstractRule`, by its name or as a table, given 3."),
    "bool for int": ({"name": "network", "hidden_size": True}, "hidden_size: expected `int`, given True."),
    "float for int": ({"name": "network", "hidden_size": 3.0}, "hidden_size: expected `int`, given 3.0."),
    "int for bool": ({"name": "gradient", "nesterov": 1}, "nesterov: expected `bool`, given 1."),
    "huge int": ({"name": "network", "hidden_size": 10**5000}, "hidden_size: expected `int`, given <int>."),
    "text for a rate": ({"name": "gradient", "rate": "fast"}, "rate: expected `float`, given 'fast'."),
    "bool for a rate": ({"name": "gradient", "rate": True}, "rate: expected `float`, given True."),
    "list for a rate": ({"name": "gradient", "rate": [0.1]}, "rate: expected `float`, given [0.1]."),
    "too large a rate": ({"name": "gradient", "rate": 1e300}, "rate: expected `float`, given 1e+300."),
    "text in a list": (
        {"name": "chain", "stages": [], "weights": [1, "a"]},
        "weights[1]: expected `float`, given 'a'.",
    ),
    "ragged": (
        {"name": "chain", "stages": [], "weights": [[1], [1, 2]]},
        "weights: expected `float array (stages) | None`, given [[1], [1, 2]].",
    ),
    "choice": (
        {"name": "clipped", "inner": "gradient", "mode": "nrom"},
        "mode: expected `'norm' | 'value' | 2`, given 'nrom'. Did you mean `norm`?",
    ),
    "choice is not bool": (
        {"name": "clipped", "inner": "gradient", "mode": 2.0},
        "mode: expected `'norm' | 'value' | 2`, given 2.0.",
    ),
    "union": ({"name": "clipped", "inner": "gradient", "limit": "a"}, "limit: expected `float | None`, given 'a'."),
    "value of a dict": ({"name": "named", "rate": 1, "others": {"a": "b"}}, "others.a: expected `float`, given 'b'."),
    "constructor": ({"name": "network", "hidden_size": 0}, "`hidden_size` must be positive."),
    "inner constructor": (
        {"name": "clipped", "inner": {"name": "network", "hidden_size": 0}},
        "inner: `hidden_size` must be positive.",
    ),
    "unusual error": ({"name": "clipped", "inner": "broken"}, "inner: ZeroDivisionError: by design"),
    "wrong kind": ("wrong_kind", "`wrong_kind` made 3, which is no `AbstractRule`."),
    "not installed": ("missing", "`missing` cannot be imported. ModuleNotFoundError: "),
    "extra option of the wrong type": ({"name": "open_ended", "a": "b"}, "a: expected `int`, given 'b'."),
    "key": ({"name": "gradient", 3: 4}, "the key 3 is not a string."),
    "key in a dict": (
        {"name": "named", "rate": 1, "others": {None: 1}},
        "others: the key None is not a string.",
    ),
    "odd key": ({"name": "gradient", "a b": 1}, '"a b": `gradient` has no such option.'),
    "contains itself": (loop(), "inner.inner.inner.inner: more than 32 tables and lists stand inside one another."),
    "numbers contain themselves": (
        {"name": "chain", "stages": [], "weights": nested_loop()},
        "weights[0][0][0]: more than 32 tables and lists",
    ),
    "object of another kind": (
        {"name": "clipped", "inner": Gradient},
        "inner: expected `AbstractRule`, by its name or as a table, given <class",
    ),
    "bad seed": ({"name": "network", "key": 0.5}, "key: expected `seed | None`, given 0.5."),
}


@pytest.mark.parametrize("case", TEXTS.values(), ids=TEXTS.keys())
def test_texts(case: tuple[Any, str]) -> None:
    spec, wanted = case
    assert str(error(spec)).startswith(wanted)


EVERYTHING = {
    "pair": ([1, "a", 2], "pair: expected `tuple[int, str]`, given [1, 'a', 2]."),
    "sequence": ("ab", "sequence: expected `sequence[int]`, given 'ab'."),
    "table": ([1], "table: expected `mapping[str, int] | None`, given [1]."),
    "limits": ({"low": 1, "hihg": 2}, "limits.hihg: `Limits` has no such option. Did you mean `high`?"),
    "ints": ([2**40, 2**62], "ints: expected `int array (n) | None`"),
    "bools": ([[1]], "bools[0][0]: expected `bool`, given 1."),
    "rule_or_rate": ({"name": "gradient", "rat": 1}, "rule_or_rate.rat: `gradient` has no such option."),
    "seed": (2**70, "seed: expected `seed | None`"),
    "color": ("red", "color: expected `Color`, given 'red'."),
    "anything": (10**30, "anything: expected `number`, given 1000000000000000000000000000000."),
    "path": (b"a", "path: expected `Path`, given b'a'."),
    "word": (None, "word: expected `str`, given None."),
    "ratio": (10**400, "ratio: expected `float`, given "),
    "flag": ("True", "flag: expected `bool`, given 'True'."),
    "several": ([1, "a"], "several[1]: expected `float`, given 'a'."),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_types(name: str) -> None:
    value, wanted = EVERYTHING[name]
    assert str(error({name: value}, Everything)).startswith(wanted)


def test_shapes() -> None:
    matrix = {"name": "bowls", "sizes": [], "matrix": [[1, 2]]}
    assert str(error(matrix, AbstractFamily)) == "matrix: expected `float array (2 n)`, given [[1, 2]]."
    wrong = {"name": "bowls", "sizes": [], "matrix": jnp.ones((3, 3))}
    assert str(error(wrong, AbstractFamily)).startswith("matrix: expected `float array (2 n)`, given ")
    deep = {"name": "clipped", "inner": {"name": "checked", "left": [1], "right": [1, 2]}}
    text = str(error(deep))
    assert text.startswith("inner: Type-check error whilst checking the parameters of ")
    assert "right" in text and "-----" not in text


def test_run_sections() -> None:
    assert str(error({"ruel": "gradient"}, Run)) == "ruel: `Run` has no such option. Did you mean `rule`?"
    assert str(error({"rule": "gradient"}, Run)) == "family: missing: `Run` needs it, as `AbstractFamily`."
    spec = {"rule": "gradient", "family": {"name": "bowls", "sizes": [1, "a"]}}
    assert str(error(spec, Run)) == "family.sizes[1]: expected `int`, given 'a'."
    assert str(error("run", Run)) == "expected `Run`, given 'run'."


def test_nothing_is_registered() -> None:
    with pytest.raises(SpecError, match="'adam' is not the name of any `AbstractRule`; there are none."):
        build("adam", AbstractRule, registry=Registry())


def test_nothing_steers_the_terminal() -> None:
    evil = "\x1b[2J\x9b1m\u202e\r"
    for spec in ({"name": evil}, {"name": "gradient", evil: 1}, {"name": "gradient", "rate": evil}, evil):
        assert str(error(spec)).isprintable()
    assert str(SpecError(f"{evil}.toml", "a\nb")) == "\\x1b[2J\\x9b1m\\u202e\\r.toml: a\nb"


def test_fields() -> None:
    wrong = error({"name": "chain", "stages": [{"name": "network", "hidden_sise": 3}]})
    assert wrong.path == "stages[0].hidden_sise"
    assert wrong.expected == "hidden_size, activation, key"
    assert wrong.given == "'hidden_sise'"
    assert wrong.suggestion == "hidden_size"
    assert error({"name": "clipped", "inner": "gradeint"}).suggestion == "gradient"
    assert isinstance(wrong, ValueError)


def test_errors_can_be_sent_between_processes() -> None:
    wrong = error({"name": "network", "hidden_sise": 3})
    again = pickle.loads(pickle.dumps(wrong))
    assert str(again) == str(wrong) and again.suggestion == "hidden_size"


def test_the_cause_is_kept() -> None:
    assert isinstance(error("broken").__cause__, ZeroDivisionError)


class Rude:
    """Nothing about it can be relied on."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # pyright: ignore[reportAssignmentType]


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([400, 5000]).map(lambda digits: 10**digits),
    st.sampled_from([-(2**63) - 1, 2**63, 2**31]),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.sampled_from(["gradient", "network", "none", "wrong_kind", "broken", "missing", "chain", "\ud800", ""]),
    st.binary(max_size=3),
    st.sets(st.integers(), max_size=2),
    st.sampled_from([Gradient, jnp.tanh, ..., range(3), 1j]),
    st.one_of([st.builds(make) for make in (object, Rude, loop, nested_loop, lambda: jnp.ones((2, 2)))]),
)
KEYS = st.one_of(
    st.sampled_from(["name", "inner", "stages", "rate", "hidden_size", "weights", "rule", "family", "sizes", "limit"]),
    st.text(max_size=3),
    st.sampled_from([None, 3, 0.5, b"a", ("a",)]),
)
NESTED = st.recursive(
    JUNK,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.tuples(inner), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)
VALID = {
    "rule": {
        "name": "chain",
        "stages": [
            {"name": "clipped", "inner": {"name": "gradient", "rate": 0.5}, "limit": 2.0, "mode": "value"},
            {"name": "network", "hidden_size": 3, "activation": "tanh", "key": 1},
            {"name": "named", "rate": 1.0, "others": {"a": 1.0}},
            {"name": "checked", "left": [1.0], "right": [2.0]},
        ],
        "weights": [1.0, 2.0],
    },
    "family": {"name": "bowls", "sizes": [2, 3], "center": 1.0, "matrix": [[1.0], [2.0]], "data": "d"},
    "steps": 3,
}


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good spec with one place replaced by junk, or with a junk entry more."""

    def damage(node: Any) -> Any:
        if not isinstance(node, dict | list) or draw(st.integers(0, 3)) == 0:
            return draw(NESTED)
        if isinstance(node, list):
            at = draw(st.integers(0, len(node) - 1))
            return [*node[:at], damage(node[at]), *node[at + 1 :]]
        if draw(st.integers(0, 5)) == 0:
            return node | {draw(KEYS): draw(NESTED)}
        at = draw(st.sampled_from(sorted(node)))
        return node | {at: damage(node[at])}

    return damage(VALID)


def only_spec_errors(spec: Any, kind: Any) -> None:
    for act in (build, normalize):
        try:
            act(spec, kind, registry=REGISTRY)
        except SpecError as wrong:
            assert str(wrong)


@given(NESTED, st.sampled_from([AbstractRule, AbstractFamily, Run, Everything, float, Any]))
def test_anything_else_is_a_spec_error(spec: Any, kind: Any) -> None:
    for annotation in (kind, kind | None, list[kind], dict[str, kind]):
        try:
            build(spec, annotation, registry=REGISTRY)
        except SpecError as wrong:
            assert str(wrong)


@given(damaged())
def test_damage_is_a_spec_error(spec: Any) -> None:
    only_spec_errors(spec, Run)


@given(st.sampled_from(sorted(Everything.__annotations__)), NESTED)
def test_wrong_types_are_spec_errors(name: str, value: Any) -> None:
    only_spec_errors({name: value}, Everything)


def test_the_good_spec_is_good() -> None:
    run = build(VALID, Run, registry=REGISTRY)
    assert len(jax.tree_util.tree_leaves(run.rule)) > 0
