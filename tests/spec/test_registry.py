"""A registry is a value, and tells what is in it without importing it."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import pytest

from metaopt.spec import Option, Registry, SpecError
from tests.spec._examples import REGISTRY, AbstractFamily, AbstractRule, Bowls, Gradient, Network


def test_register_makes_a_new_one() -> None:
    empty = Registry()
    one = empty.register(AbstractRule, "gradient", Gradient)
    two = one.register(AbstractRule, "b_2", Network)
    assert empty.kinds() == () and empty.names(AbstractRule) == ()
    assert one.names(AbstractRule) == ("gradient",)
    assert two.names(AbstractRule) == ("b_2", "gradient")
    assert two.get(AbstractRule, "gradient") is Gradient
    assert two.kinds() == (AbstractRule,)
    assert one == Registry.of({AbstractRule: {"gradient": Gradient}}) != two


def test_nothing_can_be_changed() -> None:
    rules: dict[str, Any] = {"gradient": Gradient}
    registry = Registry.of({AbstractRule: rules})
    rules["network"] = Network
    assert registry.names(AbstractRule) == ("gradient",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry._entries = {}  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        registry._entries[AbstractRule] = {}  # pyright: ignore[reportIndexIssue]


def test_merge() -> None:
    left = Registry.of({AbstractRule: {"gradient": Gradient}})
    right = Registry.of({AbstractRule: {"network": Network}, AbstractFamily: {"bowls": Bowls}})
    both = left.merge(right)
    assert both.names(AbstractRule) == ("gradient", "network")
    assert both.kinds() == (AbstractRule, AbstractFamily)
    with pytest.raises(ValueError, match="`AbstractRule` has an entry `gradient` already"):
        both.merge(left)


def test_a_kind_can_be_told_by_where_it_is_defined() -> None:
    place = f"{AbstractRule.__module__}:AbstractRule"
    for first, second in ((place, AbstractRule), (AbstractRule, place)):
        registry = Registry.of({first: {"gradient": Gradient}}).register(second, "network", Network)
        assert registry.names(AbstractRule) == registry.names(place) == ("gradient", "network")
        assert registry.kinds() == (AbstractRule,)
        assert registry.get(AbstractRule, "network") is registry.get(place, "network") is Network
        with pytest.raises(SpecError, match="is not the name of any `AbstractRule`"):
            registry.get(place, "other")
    with pytest.raises(TypeError, match="reads `module:attribute`"):
        Registry().register("AbstractRule", "gradient", Gradient)


@pytest.mark.parametrize("name", ["", "Adam", "adam-w", "2d", "_adam", "adam_", "adam__w", "adam w", "adam\n", "ädam"])
def test_names_are_snake_case(name: str) -> None:
    with pytest.raises(ValueError, match="snake_case"):
        Registry().register(AbstractRule, name, Gradient)


@pytest.mark.parametrize("factory", ["module", "module:", ":attribute", "a b:c", "a..b:c", "a:b:c"])
def test_lazy_entries_are_well_formed(factory: str) -> None:
    with pytest.raises(ValueError, match="module:attribute"):
        Registry().register(AbstractRule, "rule", factory)


def test_a_factory_can_be_called() -> None:
    wrong: Any = Gradient().rate
    with pytest.raises(TypeError):
        Registry().register(AbstractRule, "rule", wrong)


def test_a_kind_is_a_class() -> None:
    with pytest.raises(TypeError, match="A kind is a class"):
        Registry().register("rule", "gradient", Gradient)


def test_lazy_entries_are_imported_when_asked_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_rules.py").write_text("class Outer:\n    class Inner:\n        '''Deep inside.'''\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.of({AbstractRule: {"heavy": "heavy_rules:Outer.Inner"}})
    assert registry.names(AbstractRule) == ("heavy",)
    assert "heavy_rules" not in sys.modules
    assert registry.get(AbstractRule, "heavy").__name__ == "Inner"
    assert registry.summary(AbstractRule, "heavy") == "Deep inside."


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("missing", "`missing` cannot be imported. ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("absent", "`absent` cannot be imported. AttributeError: module 'tests.spec._examples' has no attribute"),
        ("gradent", "'gradent' is not the name of any `AbstractRule`; there are `absent`, `broken`"),
    ],
)
def test_what_cannot_be_found(name: str, wanted: str) -> None:
    with pytest.raises(SpecError) as caught:
        REGISTRY.get(AbstractRule, name)
    assert str(caught.value).startswith(wanted)
    assert caught.value.suggestion == ("gradient" if name == "gradent" else None)


def test_a_kind_without_entries() -> None:
    with pytest.raises(SpecError, match="not the name of any `Module`; there are none."):
        REGISTRY.get(eqx.Module, "adam")


def test_summary() -> None:
    summaries = {name: REGISTRY.summary(AbstractRule, name) for name in ("gradient", "network", "chain", "named")}
    assert summaries == {
        "gradient": "Go down.",
        "network": "A learned rule",
        "chain": "",
        "named": "Make a gradient rule of the sum of some rates.",
    }


def test_options() -> None:
    assert REGISTRY.options(AbstractRule, "gradient") == (
        Option("rate", "float", "0.1"),
        Option("nesterov", "bool", "False"),
    )
    assert REGISTRY.options(AbstractRule, "clipped") == (
        Option("inner", "AbstractRule", None),
        Option("limit", "float | None", "1.0"),
        Option("mode", "'norm' | 'value' | 2", "'norm'"),
    )
    hidden, activation, key = REGISTRY.options(AbstractRule, "network")
    assert hidden == Option("hidden_size", "int", "4")
    assert activation.type == "Callable" and activation.default is not None
    assert key == Option("key", "seed | None", "None")
    assert REGISTRY.options(AbstractFamily, "bowls")[0:3] == (
        Option("sizes", "tuple[int, ...]", None),
        Option("center", "float array (...)", "0.0"),
        Option("matrix", "float array (2 n)", "((1, 0), (0, 1))"),
    )
    assert REGISTRY.options(Callable, "tanh") == ()
