"""Everything that a spec can name."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ._error import Place, SpecError, closest, listed, shown
from ._hints import REQUIRED, Parameters, parameters, readable


Factory = Callable[..., Any] | str
"""A class, a function, or the `"module:attribute"` where one is found when it is needed."""


_REFERENCE = r"\w+(\.\w+)*:\w+(\.\w+)*"


class Option(NamedTuple):
    """An option of a registry entry, in words; `default` is `None` if the option is required."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class Registry:
    """An immutable table from a kind and a name to a factory.

    A kind is a class, mostly an abstract one; a factory makes instances of it. In a spec, `name` is the name of the
    entry, so that no option can be called so. Under the kind `collections.abc.Callable` a function stands for itself:
    it is the value, and nobody calls it to make one.
    """

    _entries: Mapping[type | str, Mapping[str, Factory]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, entries: Mapping[Any, Mapping[str, Factory]]) -> "Registry":
        """Make a registry from `{kind: {name: factory}}`."""
        registry = cls()
        for kind, factories in entries.items():
            for name, factory in factories.items():
                registry = registry.register(kind, name, factory)
        return registry

    def register(self, kind: Any, name: str, factory: Factory) -> "Registry":
        """Make a registry with one more entry.

        **Arguments:**

        - `kind`: the class that the entry makes instances of, or the `"module:attribute"` where it is defined.
        - `name`: its name in specs, in `snake_case`.
        - `factory`: a class, a function, or `"module:attribute"` to import one when it is first asked for.

        **Returns:** the new registry.

        **Raises:** `ValueError` for a name that is taken or badly formed, `TypeError` for a wrong kind or factory.
        """
        if not isinstance(kind, type) and not (isinstance(kind, str) and re.fullmatch(_REFERENCE, kind)):
            raise TypeError(f"A kind is a class, or reads `module:attribute`, which {shown(kind)} is not.")
        if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
            raise ValueError(f"The name {shown(name)} is not in `snake_case`.")
        if isinstance(factory, str) and not re.fullmatch(_REFERENCE, factory):
            raise ValueError(f"The factory {shown(factory)} of `{name}` does not read `module:attribute`.")
        if not isinstance(factory, str) and not callable(factory):
            raise TypeError(f"The factory {shown(factory)} of `{name}` cannot be called.")
        if name in self.names(kind):
            raise ValueError(f"`{_word(kind)}` has an entry `{name}` already.")
        key = self._key(kind)
        factories = MappingProxyType({**self._entries.get(key, {}), name: factory})
        return Registry(MappingProxyType({**self._entries, key: factories}))

    def merge(self, other: "Registry") -> "Registry":
        """Make a registry with the entries of both. A name that is in both is a `ValueError`."""
        registry = self
        for kind, factories in other._entries.items():
            for name, factory in factories.items():
                registry = registry.register(kind, name, factory)
        return registry

    def kinds(self) -> tuple[type, ...]:
        """List the kinds, in the order in which they were registered. What was registered as text is imported."""
        return tuple(_imported(kind) if isinstance(kind, str) else kind for kind in self._entries)

    def names(self, kind: Any) -> tuple[str, ...]:
        """List the names of a kind, sorted. Nothing is imported."""
        return tuple(sorted(self._entries.get(self._key(kind), ())))

    def _key(self, kind: Any) -> Any:
        """What a kind is kept under: itself, or where it is defined."""
        return next((known for known in self._entries if _is_same(known, kind)), kind)

    def get(self, kind: Any, name: str, *, path: Place = ()) -> Callable[..., Any]:
        """Find a factory, and import it if need be.

        **Arguments:**

        - `kind`, `name`: the entry.
        - `path`: where in a spec the name stands, for the error.

        **Returns:** the factory.

        **Raises:** [`metaopt.spec.SpecError`][] if there is no such entry, or if its module cannot be imported.
        """
        names = self.names(kind)
        if name not in names:
            problem = f"{shown(name)} is not the name of any `{_word(kind)}`; there are {listed(names)}."
            expected, word = ", ".join(names), closest(name, names)
            raise SpecError(path, problem, expected=expected, given=shown(name), suggestion=word)
        factory = self._entries[self._key(kind)][name]
        if not isinstance(factory, str):
            return factory
        try:
            return _imported(factory)
        except Exception as error:  # an import runs a module, so anything may happen
            problem = f"`{name}` cannot be imported. {type(error).__name__}: {error}"
            raise SpecError(path, problem) from error

    def summary(self, kind: Any, name: str) -> str:
        """Return the first sentence of an entry's docstring; empty if it has none."""
        factory = self.get(kind, name)
        text = inspect.cleandoc(factory.__doc__ or "").split("\n\n")[0]
        if text.startswith(f"{getattr(factory, '__name__', '')}("):
            return ""  # the signature, which `dataclasses` puts where a docstring is missing
        return re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(text.split()))[0]

    def options(self, kind: Any, name: str) -> tuple[Option, ...]:
        """List what an entry can be given, in words."""
        known = entry_parameters(kind, self.get(kind, name))
        return tuple(
            Option(option, readable(hint), None if default is REQUIRED else shown(default))
            for option, (hint, default) in known.named.items()
        )


def _imported(reference: str) -> Any:
    module, _, attributes = reference.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found


def _is_same(kind: Any, other: Any) -> bool:
    return kind is other or (isinstance(kind, str) or isinstance(other, str)) and _place(kind) == _place(other)


def _place(kind: Any) -> Any:
    return f"{kind.__module__}:{kind.__qualname__}" if isinstance(kind, type) else kind


def _word(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else kind.partition(":")[2]


def is_value(kind: Any, factory: Callable[..., Any]) -> bool:
    """Whether an entry is itself what it names: a function that is registered as a `Callable`."""
    return kind is Callable and not isinstance(factory, type)


def entry_parameters(kind: Any, factory: Callable[..., Any]) -> Parameters:
    known = Parameters({}, None) if is_value(kind, factory) else parameters(factory)
    return Parameters({}, Any) if known is None else known
