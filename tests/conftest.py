"""Settings shared by all tests: many faked devices, strict promotion, checked shapes, a cache of compiled programs."""

import contextlib
import ctypes
import gc
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import TYPE_CHECKING


# A shell that starts the tests in the background has them ignore Ctrl-C, and so would processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before jax is imported: these are the defaults of the processes that tests start, too.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaopt" / "xla"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# What native kernels are found to be here, beside a slowed-down XLA, is not for the user's own runs.
os.environ.setdefault("METAOPT_CACHE", str(_CACHE.parent / "tests"))
# Programs here are small and run a few times, so that compiling them is most of the work. This halves it.
_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12):
    _FAST += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{_FAST} {os.environ.get('XLA_FLAGS', '')}"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jax.random as jr  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

import tests._typechecking  # noqa: E402, F401  (the import hook looks it up by name)


if TYPE_CHECKING:
    from metaopt_backends.native import Native

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Before any test imports the package: every annotated function and field is checked when it is used.
jaxtyping.install_import_hook(["metaopt", "metaopt_backends"], "tests._typechecking.check")

hypothesis.settings.register_profile("dev", deadline=None, max_examples=25)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=10, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


# Tracing makes many small objects that live long. To look through them as often as Python does takes a sixth of the
# time.
gc.set_threshold(50_000, 20, 10)

# A compiled program takes one to two megabytes, and seven memory mappings, of which a process may have 65530 on Linux.
_MUCH_MEMORY, _MUCH_MORE = 1.3 * 2**30, 0.4 * 2**30
_MANY_MAPPINGS = 25_000
_kept = [0]


def _memory() -> int:
    """The bytes that this process holds, where that can be known."""
    statistics = Path("/proc/self/statm")
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statistics.exists() else 0


def _mappings() -> int:
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


@pytest.fixture(autouse=True)
def _few_programs() -> Iterator[None]:
    """Forget compiled programs when there are many; those worth keeping come back from the cache on disk."""
    yield
    # Tests of one module share programs: what stays after forgetting is no reason to forget again.
    if _memory() > max(_MUCH_MEMORY, _kept[0] + _MUCH_MORE):
        _forget()
        _kept[0] = _memory()


@pytest.fixture(autouse=True, scope="module")
def _few_mappings() -> Iterator[None]:
    yield
    if _mappings() > _MANY_MAPPINGS:
        _forget()


def _forget() -> None:
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # What was freed stays with the allocator of glibc otherwise.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def pytest_report_header() -> str:
    """What the tests run with: a pass is one of these versions."""
    packages = ["jax", "jaxlib", "equinox", "optax", "jaxtyping", "beartype", "numpy", "tfp-nightly"]
    return ", ".join(f"{package} {version(package)}" for package in packages)


@pytest.fixture
def getkey(request: pytest.FixtureRequest) -> Callable[[], jax.Array]:
    """A source of fresh typed keys. The sequence depends on the name of the test alone."""
    seed = sum(ord(letter) << (index % 24) for index, letter in enumerate(request.node.name)) % 2**31
    keys = [jr.key(seed)]

    def fresh() -> jax.Array:
        keys[0], key = jr.split(keys[0])
        return key

    return fresh


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> "Native":
    """The native backend, for all tensors of more than one element; kernels are not judged by their speed."""
    from metaopt_backends.native import Native, _self_test

    reason = Native.unusable()
    if reason is not None:
        pytest.skip(f"native: {reason}")
    monkeypatch.setattr(_self_test, "_SLOWEST", float("inf"))
    return Native(smallest=2)


@pytest.fixture
def pyscf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The provider of molecular integrals, found as an installed distribution would offer it."""
    from metaopt.backend import _discovery

    pytest.importorskip("pyscf")
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    offered = project["entry-points"]["metaopt.backends"]
    entries = {name: EntryPoint(name, value, "metaopt.backends") for name, value in offered.items()}
    monkeypatch.setattr("metaopt.backend._discovery.offered", lambda _: entries)
    _discovery.installed.cache_clear()
    yield
    _discovery.installed.cache_clear()
