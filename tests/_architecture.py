"""Rules of the architecture, as functions from a package to the list of its violations."""

import ast
import functools as ft
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType


# Imports point to lower layers only. Rooms of one layer do not know each other, except on top.
LAYERS = {
    **dict.fromkeys(["_compat", "_core"], 0),
    **dict.fromkeys(["backend", "spec"], 1),
    **dict.fromkeys(["l2o", "multiobjective", "schedules", "sharding", "tasks"], 2),
    **dict.fromkeys(["meta", "physics", "rl", "scf"], 3),
    **dict.fromkeys(["evaluate", "fewshot"], 4),
    **dict.fromkeys(["", "__main__", "bench", "doctor", "registry", "runs"], 5),
}
TOP = max(LAYERS.values())
# Files that a user may import by name; all others begin with an underscore.
PUBLIC_FILES = {"__init__", "__main__", "base"}
# Of these, a file holds one.
ONE_PER_FILE = {"AbstractAlgorithm", "AbstractEstimator"}
# Scripts that run a peer in the peer's own environment are not part of the library.
FOREIGN = ("bench", "peers")
MOST_FILES = 20
# Equinox runs the check of every class in the hierarchy, so adding one overrides nothing.
COOPERATIVE = {"__check_init__"}


@dataclass(frozen=True)
class ClassSource:
    """What the body of a class says: names it defines, split by whether they are promises or facts."""

    abstract: frozenset[str]
    concrete: frozenset[str]
    fields: frozenset[str]


@dataclass(frozen=True)
class Package:
    """A package on disk. Its modules are parsed and imported when a rule asks for it."""

    name: str
    root: Path
    layers: dict[str, int] = field(default_factory=lambda: LAYERS, hash=False)

    @ft.cached_property
    def files(self) -> dict[str, Path]:
        """Dotted module names and their files."""
        found = {}
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            if parts[: len(FOREIGN)] != FOREIGN:
                parts = parts[:-1] if parts[-1] == "__init__" else parts
                found[".".join((self.name, *parts))] = path
        return found

    @ft.cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in self.files.items()}

    @ft.cached_property
    def modules(self) -> dict[str, ModuleType]:
        return {name: importlib.import_module(name) for name in self.files}

    @ft.cached_property
    def classes(self) -> dict[type, ClassSource]:
        """All top-level classes, with what their source says."""
        found = {}
        for name, tree in self.trees.items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    found[getattr(self.modules[name], node.name)] = _read_class(node)
        return found

    def room(self, module: str) -> str:
        """The folder or top-level file that a module belongs to; empty for the package itself."""
        return (module.split(".") + [""])[1]

    def is_package(self, module: str) -> bool:
        return self.files[module].name == "__init__.py"


def _head(node: ast.expr) -> str:
    """`AbstractVar` from `eqx.AbstractVar[int]`, `abstractmethod` from `abc.abstractmethod`."""
    if isinstance(node, ast.Subscript):
        return _head(node.value)
    if isinstance(node, ast.Call):
        return _head(node.func)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _head(ast.parse(node.value, mode="eval").body)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _read_class(node: ast.ClassDef) -> ClassSource:
    abstract, concrete, fields = set(), set(), set()
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            promised = any("abstract" in _head(decorator) for decorator in item.decorator_list)
            (abstract if promised else concrete).add(item.name)
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            kind = _head(item.annotation)
            promised = kind in {"AbstractVar", "AbstractClassVar"}
            (abstract if promised else concrete if kind == "ClassVar" else fields).add(item.target.id)
        elif isinstance(item, ast.Assign):
            concrete.update(target.id for target in item.targets if isinstance(target, ast.Name))
    return ClassSource(frozenset(abstract), frozenset(concrete), frozenset(fields))


def _is_protocol(cls: type) -> bool:
    return bool(cls.__dict__.get("_is_protocol"))


def _is_abstract(cls: type) -> bool:
    variables = (getattr(cls, name, ()) for name in ("__abstractvars__", "__abstractclassvars__"))
    return inspect.isabstract(cls) or any(variables)


def _at(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def imports(package: Package, module: str) -> Iterator[str]:
    """Absolute names of everything a module imports, at any depth of nesting."""
    for node in ast.walk(package.trees[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - package.is_package(module)
                parts = module.split(".")[: len(module.split(".")) - up]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in package.files else base


def layers(package: Package) -> Iterator[str]:
    """Imports point to lower layers; backends are found by discovery, never imported."""
    for module in package.files:
        source = package.room(module)
        if source not in package.layers:
            yield f"{module}: the room `{source}` has no layer; give it one in `LAYERS`"
            continue
        for name in imports(package, module):
            if name.split(".")[0] == f"{package.name}_backends":
                yield f"{module} imports `{name}` by name"
            if name.split(".")[0] != package.name:
                continue
            target = package.room(name)
            below, above = package.layers.get(target, TOP), package.layers[source]
            if target != source and not below < above and not (below == above == TOP and target != "__main__"):
                yield f"{module} (layer {above}) imports `{name}` (layer {below})"


def private_imports(package: Package) -> Iterator[str]:
    """Private parts of other libraries are used in one place, `_compat`."""
    for module in package.files:
        if package.room(module) == "_compat":
            continue
        for name in imports(package, module):
            first, *rest = name.split(".")
            private = any(part.startswith("_") and not part.startswith("__") for part in rest)
            if first != package.name and (private or name.startswith("equinox.internal")):
                yield f"{module} imports `{name}`, which is private to `{first}`"


def shortcuts(package: Package) -> Iterator[str]:
    """No `super()`, except for what Python asks to be passed on when a class is made, and no `hasattr`."""
    for module, tree in package.trees.items():
        passed_on = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "__init_subclass__"
        }
        for node in ast.walk(tree):
            if id(node) in passed_on:
                continue
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"super", "hasattr"}:
                yield f"{module}, line {node.lineno}: calls `{node.func.id}`"


def bare_inits(package: Package) -> Iterator[str]:
    """An `__init__.py` holds re-exports `from ._x import X as X` and nothing else (the package itself a version)."""
    for module, tree in package.trees.items():
        if not package.is_package(module):
            continue
        for index, node in enumerate(tree.body):
            docstring = index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            version = module == package.name and (
                (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__")
                or (isinstance(node, ast.Import) and node.names[0].name == "importlib.metadata")
            )
            if docstring or version:
                continue
            if not isinstance(node, ast.ImportFrom):
                yield f"{module}, line {node.lineno}: `{ast.unparse(node).splitlines()[0]}` is not a re-export"
                continue
            for alias in node.names:
                if alias.asname != alias.name:
                    yield f"{module}, line {node.lineno}: write `{alias.name} as {alias.name}`"


def private_files(package: Package) -> Iterator[str]:
    """Files in a room begin with an underscore, except `base.py`."""
    for module, path in package.files.items():
        at_top = path.parent == package.root
        if not at_top and path.stem not in PUBLIC_FILES and not path.stem.startswith("_"):
            yield f"{module}: name the file `_{path.name}` and re-export from the folder"


def abstract_or_final(package: Package) -> Iterator[str]:
    """A class is abstract (with a name that says so, no fields, no constructor) or final (never subclassed)."""
    for cls, source in package.classes.items():
        named = cls.__name__.lstrip("_").startswith("Abstract")
        if _is_protocol(cls):
            continue
        if named and not _is_abstract(cls):
            yield f"{_at(cls)} is called abstract, but nothing about it is"
        if _is_abstract(cls) and not named:
            yield f"{_at(cls)} is abstract, but its name does not begin with `Abstract`"
        if named or _is_abstract(cls):
            for name in sorted(source.fields | (source.concrete & {"__init__"})):
                yield f"{_at(cls)} is abstract and defines `{name}`; fields and constructors belong to final classes"
        for base in cls.__bases__:
            if base in package.classes and not _is_abstract(base) and not _is_protocol(base):
                yield f"{_at(cls)} is a subclass of the final class {_at(base)}"


def no_overrides(package: Package) -> Iterator[str]:
    """A concrete method, property or class attribute is never defined again below."""
    for cls, source in package.classes.items():
        defined = source.abstract | source.concrete | source.fields
        for base in cls.__mro__[1:]:
            for name in sorted(defined & package.classes[base].concrete if base in package.classes else ()):
                if name not in COOPERATIVE:
                    yield f"{_at(cls)} overrides the concrete `{_at(base)}.{name}`"


def one_per_file(package: Package) -> Iterator[str]:
    """Outside the core, a file holds one public algorithm (or one estimator)."""
    found: dict[tuple[str, str], list[str]] = {}
    for cls in package.classes:
        for kind in ONE_PER_FILE & {base.__name__ for base in cls.__mro__}:
            if not _is_abstract(cls) and not cls.__name__.startswith("_") and package.room(cls.__module__) != "_core":
                found.setdefault((cls.__module__, kind), []).append(cls.__name__)
    for (module, kind), names in found.items():
        if len(names) > 1:
            yield f"{module} holds {len(names)} subclasses of `{kind}`: {', '.join(names)}"


def _homes(package: Package, module: str) -> Iterable[str]:
    """Packages from which a user may import what `module` defines: its room, whatever the folders inside are called."""
    public = [name for name in package.files if package.is_package(name) and name.count(".") < 2 and "._" not in name]
    home = ".".join(module.split(".")[:2])
    return public if "._" in home else [home]


def reexports(package: Package) -> Iterator[str]:
    """Every public abstract class, and every public class below one, can be imported from its room."""
    for cls in package.classes:
        contract = any(base in package.classes and _is_abstract(base) for base in cls.__mro__)
        if cls.__name__.startswith("_") or not contract or len(cls.__module__.split(".")) < 3:
            continue
        homes = _homes(package, cls.__module__)
        if not any(getattr(package.modules.get(home), cls.__name__, None) is cls for home in homes):
            yield f"{_at(cls)} is not re-exported by {' or '.join(f'`{home}`' for home in homes)}"


def small_folders(package: Package) -> Iterator[str]:
    """A folder holds few enough files to be read at a glance, and a folder inside a room says what belongs there."""
    for module, path in package.files.items():
        if package.is_package(module):
            size = len([each for each in path.parent.glob("*.py") if each != path])
            if size > MOST_FILES:
                yield f"{module} holds {size} files; make folders inside, with at most {MOST_FILES} each"
            if module.count(".") > 1 and ast.get_docstring(package.trees[module]) is None:
                yield f"{module}: say in the docstring of `__init__.py` what belongs into this folder"


RULES: list[Callable[[Package], Iterator[str]]] = [
    layers,
    private_imports,
    shortcuts,
    bare_inits,
    private_files,
    abstract_or_final,
    no_overrides,
    one_per_file,
    reexports,
    small_folders,
]
