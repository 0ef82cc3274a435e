"""The doctor looks at everything, computes what is known, and survives what is broken."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from metaopt.__main__ import main
from metaopt.doctor import _checks, _diagnosis, _parts, _text, diagnose
from metaopt_backends.native import _compile, _survey


QUICK = {name: _checks.CHECKS[name] for name in ("sum over devices", "save and load, what is changed")}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Callable[[], tuple[float, str]], float]]:
    """Self-tests that cost little."""
    checks = dict(QUICK)
    monkeypatch.setattr(_diagnosis, "CHECKS", checks)
    return checks


def test_a_page_and_a_file_for_a_bug_report(
    quick: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path))
    monkeypatch.setenv("METAOPT_SURPRISE", "\x1b[31mred\n")
    monkeypatch.setenv("METAOPT_COORDINATOR", "host.of.mine:1234")
    file = tmp_path / "doctor.json"
    assert main(["doctor", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(\S+)$", out, re.MULTILINE) == [*_parts.PARTS, "self-test"]
    for package in ("metaopt", "jax", "jaxlib", "equinox", "optax", "jaxtyping", "beartype", "tfp-nightly"):
        assert re.search(rf"^  {package} +{re.escape(importlib.metadata.version(package))}$", out, re.MULTILINE)
    assert f"{jax.device_count()} x cpu" in out
    assert re.search(r"^  xla +usable", out, re.MULTILINE) and re.search(
        r"^  pallas +not usable here: ", out, re.MULTILINE
    )
    assert r"\x1b[31mred\n" in out and "\x1b" not in out and "host.of.mine" not in out
    assert f"{tmp_path}/native: nothing yet\n" in out
    assert "Healthy: 2 self-tests" in out and "A bug report should contain" in out
    found = json.loads(file.read_text())
    assert found["healthy"] and [check["status"] for check in found["checks"]] == ["ok", "ok"]
    assert found["parts"]["variables"]["METAOPT_COORDINATOR"] == "(set)"


def test_a_number_that_is_wrong_ends_with_status_1(quick: dict, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> tuple[float, str]:
        raise RuntimeError("no\x1b such thing")

    def skipped() -> tuple[float, str]:
        raise _checks.Skipped("nothing to test")

    quick.clear()
    quick |= {
        "wrong": (lambda: (0.2, "why"), 0.1),
        "undefined": (lambda: (float("nan"), ""), 0.1),
        "broken": (broken, 0.1),
        "absent": (skipped, 0.1),
        "right": (lambda: (0.1, ""), 0.1),
    }
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^  wrong +FAILED +2.0e-01 \(at most 1e-01\) +\d+\.\d s  why$", out, re.MULTILINE)
    assert re.search(r"^  undefined +FAILED +nan ", out, re.MULTILINE)
    assert re.search(
        r"^  broken +FAILED .* RuntimeError: no\\x1b such thing \[test_doctor.py, line \d+\]$", out, re.MULTILINE
    )
    assert re.search(r"^  absent +skipped .* nothing to test$", out, re.MULTILINE)
    assert "NOT HEALTHY: wrong; undefined; broken.\n" in out


@pytest.mark.parametrize("part", _parts.PARTS)
def test_a_part_that_is_broken_does_not_hide_the_others(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, object]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_diagnosis, "CHECKS", {})
    monkeypatch.setattr(_diagnosis, "PARTS", {name: lambda: {"x": 1} for name in _parts.PARTS} | {part: broken})
    found = diagnose()
    assert not found.healthy and found.parts[part]["ERROR"].startswith("OSError: [Errno 5] Input/output error [test_d")
    assert sum("ERROR" in said for said in found.parts.values()) == 1


def test_a_file_that_cannot_be_written_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", str(tmp_path / "missing" / "x.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "its folder must exist and be writable" in captured.err


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if test in (_checks.evolution, _checks.weights) else [])
        for name, (test, _) in _checks.CHECKS.items()
    ],
)
def test_numbers_are_right_here(name: str) -> None:
    test, most = _checks.CHECKS[name]
    try:
        value, note = test()
    except _checks.Skipped as reason:
        pytest.skip(str(reason))
    assert value <= most, note


def test_text_is_fit_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert _text.plain("/home/ada/x\r\x1b]0;\x07\udc80\u202eé") == r"~/x\r\x1b]0;\x07\udc80\u202e\xe9"
    assert _text.plain("a" * 1000) == "a" * 300 + "... (1000 characters)"
    assert _text.variable("XLA_API_KEY", "x") == _text.variable("METAOPT_COORDINATOR", "h:1") == "(set)"


def test_packages_that_are_missing_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda _: ["jax>=999.1", "absent[x]>=1 ; python_version > '3'", 'rare>=0.1; extra == "data"'],
    )
    found = _parts.versions()
    assert found["jax"].endswith(" TOO OLD, wanted is 999.1") and found["absent"] == "NOT INSTALLED"
    assert _parts.extras()["data"] == 'rare NOT INSTALLED; pip install "metaopt[data]"'


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")
def test_the_survey_of_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "native"
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path))
    assert _survey.survey(folder) == "nothing yet" and not folder.exists()
    with _compile.private_folder(folder) as number:
        for key, version in {"a": importlib.metadata.version("jaxlib"), "b": "0.0.1", "c": "0.0.1"}.items():
            content = key.encode() * 2**18
            _compile.write_private(number, f"{key}.so", content)
            _compile.write_private(
                number, f"{key}.sha256", f"{_compile.digest_of(content)}\njaxlib {version}\n".encode()
            )
        _compile.write_private(number, "a.verdict", b"seal\nok")
        _compile.write_private(number, "b.verdict", b"seal\nit is slow")
    os.truncate(folder / "c.so", 7)
    assert _survey.survey(folder) == (
        "3 kernels, 0.5 MiB, 2 of another jaxlib, never used again, 1 damaged, to be compiled again, "
        "2 verdicts, 1 against a kernel, such as `it is slow`; mode 0700, ours"
    )
    folder.chmod(0o777)
    assert _survey.survey(folder).startswith(f"NOT USED: `{folder}` can be changed by others")


@pytest.mark.slow
def test_the_command_without_a_home(tmp_path: Path) -> None:
    variables = {k: v for k, v in os.environ.items() if k not in ("HOME", "METAOPT_CACHE", "XDG_CACHE_HOME")}
    variables |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    program = "import pwd, sys\ndef nameless(_): raise KeyError\npwd.getpwuid = nameless\n"
    program += "from metaopt.__main__ import main\nsys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "HOME                      not set" in done.stdout
        and f"Healthy: {len(_checks.CHECKS)} self-tests" in done.stdout
    )
