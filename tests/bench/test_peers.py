import concurrent.futures
import os
import sys
import time
import zipfile
from pathlib import Path

import pytest

from metaopt.bench import _peers


def wheel(folder: Path, name: str, *, version: str = "1.0", requires: str | None = None) -> str:
    """Write a wheel holding one module with a `VERSION`, and return its path: `pip` installs it without a network."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires is not None:
        metadata += f"Requires-Dist: {requires}\n"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
    return str(path)


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The index is out of reach, so that a test which needs it fails at once and everywhere alike.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "peers"


@pytest.mark.slow
def test_environment_is_built_once_and_rebuilt_if_half_built(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    needy = wheel(tmp_path, "needypeer", requires="no-such-distribution-anywhere")
    recipe = [wheel(tmp_path, "tinypeer")]
    python = _peers.environment("tiny", recipe, no_deps=[needy])
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and "`tiny`" in err
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    assert folder in python.parents and folder.name.startswith("tiny-")

    text = "import json, needypeer, sys, tinypeer\n"
    text += "print('noise')\nprint(json.dumps({'version': tinypeer.VERSION, 'prefix': sys.prefix}))\n"
    result = _peers.run(python, script(tmp_path, text), timeout=60)
    assert result == {"version": "1.0", "prefix": str(folder)}

    trace = folder / "trace"
    trace.touch()
    assert _peers.environment("tiny", recipe, no_deps=[needy]) == python
    assert trace.exists()
    assert capfd.readouterr() == ("", "")

    (folder / "complete.json").unlink()
    assert _peers.environment("tiny", recipe, no_deps=[needy]) == python
    assert not trace.exists()
    assert _peers.run(python, script(tmp_path, text), timeout=60)["version"] == "1.0"


@pytest.mark.slow
def test_environment_that_cannot_be_installed(cache: Path, tmp_path: Path) -> None:
    needy = wheel(tmp_path, "needypeer", requires="no-such-distribution-anywhere")
    with pytest.raises(_peers.PeerUnavailable, match="`needy`.*no-such-distribution-anywhere"):
        _peers.environment("needy", [needy])
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_one_build_serves_all_callers_and_an_interrupted_one_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[Path] = []

    def build(name: str, folder: Path, *recipe: object) -> None:
        builds.append(folder)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        if len(builds) == 1:
            raise KeyboardInterrupt
        time.sleep(0.2)

    monkeypatch.setattr(_peers, "_build", build)
    with pytest.raises(KeyboardInterrupt):
        _peers.environment("tiny", ["x"])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pythons = set(pool.map(lambda _: _peers.environment("tiny", ["x"]), range(4)))
    assert len(builds) == 2 and len(pythons) == 1
    assert cache in pythons.pop().parents


def test_recipes_have_folders_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_peers, "_build", lambda name, folder, *recipe: folder.mkdir())
    pythons = {
        _peers.environment("a", ["x", "y"]),
        _peers.environment("a", ["x", "z"]),
        _peers.environment("a", ["x"], no_deps=["y"]),
        _peers.environment("b", ["x", "y"]),
    }
    assert len(pythons) == 4
    assert all(cache in python.parents for python in pythons)


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("METAOPT_CACHE", str(file))
    with pytest.raises(_peers.PeerUnavailable, match="`tiny`.*`METAOPT_CACHE`"):
        _peers.environment("tiny", [])


@pytest.mark.parametrize(
    "text, message",
    [
        ("raise ArithmeticError('too hot')", "`script.py` ended with status 1: (.|\n)*ArithmeticError: too hot"),
        ("import sys; sys.exit(3)", "`script.py` ended with status 3"),
        ("print('{}'); print('done')", "should be a JSON object, got 'done'"),
        ("print([1.0])", "should be a JSON object, got '\\[1.0\\]'"),
        ("pass", "should be a JSON object, got ''"),
        ("while True: pass", "`script.py` took more than 1 seconds"),
    ],
)
def test_failing_script(tmp_path: Path, text: str, message: str) -> None:
    timeout = 1.0 if text.startswith("while") else 60.0
    with pytest.raises(_peers.PeerFailed, match=message):
        _peers.run(Path(sys.executable), script(tmp_path, text), timeout=timeout)


def test_missing_interpreter_and_missing_script(tmp_path: Path) -> None:
    with pytest.raises(_peers.PeerFailed, match="could not be started"):
        _peers.run(tmp_path / "python", script(tmp_path, "pass"), timeout=60)
    with pytest.raises(_peers.PeerFailed, match="no_such_script.py"):
        _peers.run(Path(sys.executable), "no_such_script.py", timeout=60)


def test_script_runs_isolated_with_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    text = "import json, os, sys\nprint(json.dumps([sys.path, sys.argv[1:], os.environ['COLOR']]))\n"
    text = text.replace("dumps([", "dumps({'all': [").replace("])", "]})")
    variables = {"COLOR": "green"}
    result = _peers.run(Path(sys.executable), script(tmp_path, text), "--n", 3, timeout=60, variables=variables)
    path, arguments, color = result["all"]
    assert str(tmp_path / "ours") not in path and str(tmp_path) not in path
    assert arguments == ["--n", "3"]
    assert color == "green"


@pytest.mark.bench
def test_opifex_scripts_run_small() -> None:
    python = _peers.interpreter("opifex")
    small = "--tasks 2 --truncation 4 --horizon 8 --hidden 4 --scan 2 --blocks 1 --seconds 0.01".split()
    result = _peers.run(python, "opifex_throughput.py", *small, timeout=300)
    assert result["version"] == "0.2.0"
    assert result["inner_steps_per_second"] > 0 and result["compile_seconds"] > 0
    assert "2 tasks, truncation 4, horizon 8" in result["what"]

    few = "--truncations 1 20 --groups 16 --particles 16 --horizons 10".split()
    result = _peers.run(python, "opifex_pes_bias.py", *few, timeout=300)
    # The mean over t < 20 of x_t^2 / 2 with x_t = (1 - exp(a))^t, by a at exp(a) = 0.05.
    truth = -sum(t * 0.05 * 0.95 ** (2 * t - 1) for t in range(20)) / 20
    assert result["truth"] == pytest.approx(truth, rel=1e-5)
    one, twenty = result["rows"]
    assert (one["truncation"], one["mean"]) == (1, 0.0)
    assert abs(twenty["mean"] - truth) > 5 * twenty["standard_error"] > 0
