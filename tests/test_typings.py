"""Our stubs tell the truth: every name, parameter, order and default is that of the installed package."""

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


TYPINGS = Path(__file__).parent.parent / "typings"
STUBS = sorted(TYPINGS.rglob("*.pyi"))


def _parameters(node: ast.FunctionDef) -> list[tuple[str, Any]]:
    """Names with their defaults; `...` stands for a default that the stub does not repeat."""
    arguments = [*node.args.posonlyargs, *node.args.args]
    missing = [inspect.Parameter.empty] * (len(arguments) - len(node.args.defaults))
    defaults = [*missing, *(ast.literal_eval(default) for default in node.args.defaults)]
    return [(a.arg, d) for a, d in zip(arguments, defaults, strict=True) if a.arg not in {"self", "mol"}]


def _compare(where: str, node: ast.FunctionDef, real: Any) -> Iterator[str]:
    wanted = [p for p in inspect.signature(real).parameters.values() if p.name not in {"self", "mol"}]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in wanted):
        return
    told = _parameters(node)
    named = [p for p in wanted if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if [name for name, _ in told] != [p.name for p in named]:
        yield f"{where}: has parameters {[p.name for p in named]}, not {[name for name, _ in told]}"
        return
    for (name, default), parameter in zip(told, named, strict=True):
        if default is not ... and default != parameter.default:
            yield f"{where}: the default of `{name}` is {parameter.default!r}, not {default!r}"


def _exists(module: ModuleType, name: str) -> bool:
    """Whether a module has an attribute or a submodule of that name."""
    return name in vars(module) or importlib.util.find_spec(f"{module.__name__}.{name}") is not None


def _lies(body: list[ast.stmt], real: Any, where: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.asname == alias.name]
            yield from (f"{where}.{name} does not exist" for name in names if not _exists(real, name))
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        found = inspect.getattr_static(real, node.name, None)
        if found is None:
            yield f"{where}.{node.name} does not exist"
        elif isinstance(node, ast.ClassDef):
            yield from _lies(node.body, found, f"{where}.{node.name}")
        elif any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
            if not isinstance(found, property):
                yield f"{where}.{node.name} is not a property"
        else:
            yield from _compare(f"{where}.{node.name}", node, found)


def _module(stub: Path) -> str:
    return ".".join(stub.relative_to(TYPINGS).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("stub", STUBS, ids=_module)
def test_stub_is_true(stub: Path) -> None:
    name = _module(stub)
    pytest.importorskip(name.split(".")[0])
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    assert list(_lies(tree.body, importlib.import_module(name), name)) == []


@pytest.mark.parametrize(
    ("text", "lie"),
    [
        ("def loads(s, cls=None): ...", "has parameters"),
        ("def dump(obj, fp, *, skipkeys=True): ...", "has parameters"),
        ("def nothing(): ...", "does not exist"),
        ("from . import decoder as decoder, nothing as nothing", "json.nothing does not exist"),
        ("class JSONDecoder:\n    @property\n    def decode(self): ...", "not a property"),
        ("class JSONDecoder:\n    def raw_decode(self, s: str, idx: int = 1): ...", "default of `idx` is 0, not 1"),
    ],
)
def test_lies_are_found(text: str, lie: str) -> None:
    (found,) = _lies(ast.parse(text).body, importlib.import_module("json"), "json")
    assert lie in found
