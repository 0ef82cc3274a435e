"""Backends of other distributions, and which of all is used when none is named."""

import functools as ft

import jax

from .._core._entry_points import BACKENDS, offered
from ._xla import XLA
from .base import AbstractBackend


# The first that can be used here is what `automatic` takes. Others are used where they are named.
_PREFERRED = ("pallas", "native")


@ft.cache
def installed() -> dict[str, str]:
    """The backends that installed distributions offer, as `{name: "module:class"}`.

    A distribution offers some through the entry-point group `metaopt.backends`.
    """
    return {name: entry.value for name, entry in offered(BACKENDS).items()}


def find(name: str) -> type[AbstractBackend]:
    """Import a backend.

    **Raises:**

    - `KeyError`: if no backend has this name.
    - `ImportError`: if it cannot be imported.
    - `TypeError`: if what was found is no backend.
    """
    if name == "xla":
        return XLA
    entry = offered(BACKENDS).get(name)
    if entry is None:
        raise KeyError(f"There is no backend `{name}`; there are: {', '.join(['xla', *installed()])}.")
    found = entry.load()
    if not (isinstance(found, type) and issubclass(found, AbstractBackend)):
        raise TypeError(f"The backend `{name}`, `{entry.value}`, is no `metaopt.backend.AbstractBackend`.")
    return found


def unusable(name: str) -> str | None:
    """Why a backend cannot be used on this machine; nothing if it can."""
    try:
        return find(name).unusable()
    except Exception as error:  # what another distribution does when it is imported can fail in any way
        return f"{type(error).__name__}: {error}"


def usability() -> dict[str, str]:
    """Of each backend, whether it can be used on this machine, why not, and whether it is taken if none is named."""
    chosen, said = type(automatic()), {}
    for name in ["xla", *installed()]:
        reason = unusable(name)
        usable = "usable, and used here if none is named" if reason is None and find(name) is chosen else "usable"
        said[name] = usable if reason is None else f"not usable here: {reason}"
    return said


def automatic() -> AbstractBackend:
    """The backend that algorithms use when none is named: the fastest that can be used on this machine.

    That is `pallas` on GPUs and TPUs, `native` on CPUs with a C++ compiler, and `xla` elsewhere.
    """
    return _automatic(jax.default_backend())


@ft.cache
def _automatic(platform: str) -> AbstractBackend:
    del platform  # what can be used depends on it
    for name in _PREFERRED:
        if name in installed() and unusable(name) is None:
            return find(name)()
    return XLA()
