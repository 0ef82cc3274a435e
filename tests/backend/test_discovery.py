"""Backends of other distributions: found by name, imported late, and chosen only if they are known to be fast."""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import jax
import pytest

from metaopt.backend import XLA, _discovery, automatic, find, installed, unusable
from metaopt.registry import discovered_backends


Offer = Callable[..., None]
NATIVE, PALLAS = "metaopt_backends.native:Native", "metaopt_backends.pallas:Pallas"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    def clear() -> None:
        _discovery.installed.cache_clear()
        _discovery._automatic.cache_clear()

    def offer(**backends: str) -> None:
        entries = {name: EntryPoint(name, value, "metaopt.backends") for name, value in backends.items()}
        for module in ("metaopt.backend._discovery", "metaopt.registry"):
            monkeypatch.setattr(f"{module}.offered", lambda _: entries)
        clear()

    yield offer
    clear()


def test_those_of_the_library_are_what_the_project_says(offer: Offer) -> None:
    offer(native=NATIVE, pallas=PALLAS)
    assert installed() == {"native": NATIVE, "pallas": PALLAS}
    assert find("native").__name__ == "Native" and find("xla") is XLA


def test_what_cannot_be_found(offer: Offer) -> None:
    offer(missing="no_such_module:X", other="json:dumps", abstract="metaopt.backend:Tensor")
    with pytest.raises(KeyError, match="There is no backend `nativ`; there are: xla, missing, other, abstract"):
        find("nativ")
    with pytest.raises(ModuleNotFoundError):
        find("missing")
    for name in ("other", "abstract"):
        with pytest.raises(TypeError, match=f"The backend `{name}`, .*, is no `metaopt.backend.AbstractBackend`"):
            find(name)
    assert "ModuleNotFoundError: No module named 'no_such_module'" in (unusable("missing") or "")
    assert "TypeError: " in (unusable("other") or "")


def test_the_one_that_is_chosen(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unusable("xla") is None
    offer(pallas=PALLAS, mine="metaopt.backend:XLA")
    assert automatic() == XLA()
    # Whatever a third one is, it is used only where it is named.
    offer(pallas="no_such_module:X", native="json:dumps")
    assert automatic() == XLA()
    offer(pallas=PALLAS, native=NATIVE)
    monkeypatch.setattr(find("native"), "unusable", staticmethod(lambda: None))
    assert type(automatic()) is find("native")
    _discovery._automatic.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert type(automatic()) is find("pallas")


def test_a_name_that_no_spec_could_hold(offer: Offer) -> None:
    offer(**{"mine": NATIVE, "Not-a-name": NATIVE, "xla": NATIVE})
    with pytest.warns(UserWarning) as warned:
        assert discovered_backends() == {"mine": NATIVE}
    assert [str(w.message).split(",")[0] for w in warned] == ["The backend 'Not-a-name'", "The backend 'xla'"]
