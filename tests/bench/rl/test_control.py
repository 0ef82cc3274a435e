"""Where the benchmark of control problems finds its problems."""

import importlib.util
import sys
from pathlib import Path

import pytest

from metaopt.bench import _peers
from metaopt.bench.rl import _control


def test_without_gymnax_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> None:
        raise _peers.PeerUnavailable("no registry")

    monkeypatch.setattr(_control, "_gymnax", unavailable)
    report = _control.run()
    assert report.claims == [] and report.notes == ["No environments of gymnax: no registry."]


@pytest.mark.skipif(importlib.util.find_spec("gymnax") is not None, reason="gymnax is installed")
def test_gymnax_is_borrowed_behind_our_own_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("gymnax", "jax"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(f"borrowed = {name!r}\n")
    monkeypatch.setattr(_peers, "interpreter", lambda name: tmp_path / "bin" / "python")
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert _control._gymnax().borrowed == "gymnax"
        assert sys.path[-1] == str(packages)
    finally:
        sys.modules.pop("gymnax", None)
