"""Native kernels compute what the definition says; whatever goes wrong on the way, the reference runs."""

import itertools as it
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from metaopt.backend import XLA, Feature, Network, Pointwise, Tensor, Updated
from metaopt_backends.native import Native, _compile, _native, _self_test
from tests.backend.rule import CONTEXT, POINTWISE, SHAPES, apply, assert_matches, make, network


EMPTY = [(0,), (0, 3), (3, 0)]
_numbers = it.count(3)


def _compiled(backend: Native, net: Network, context: Array, tensors: list[Tensor]) -> tuple[list[Updated], list[str]]:
    """What a call gives, and the kernels that it uses, one per tensor that has one."""

    @jax.jit
    def kernel(net: Network, context: Array, arrays: list[Any]) -> list[Updated]:
        return backend.network_update(POINTWISE, net, context, [Tensor(*own) for own in arrays])

    arguments = net, context, [tensor[:3] for tensor in tensors]
    lowered = kernel.lower(*arguments)
    return lowered.compile()(*arguments), re.findall(r"@metaopt_update_(\w+)\(", lowered.as_text())


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(jnp.float32, 1e-4, id="single", marks=pytest.mark.slow),
        pytest.param(jnp.float64, 1e-10, id="double", marks=pytest.mark.slow),
    ],
)
def test_it_is_what_its_definition_says(
    native: Native, dtype: Any, tolerance: float, getkey: Callable[[], Array], caplog: pytest.LogCaptureFixture
) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        net, context = network(getkey()), jr.normal(getkey(), (CONTEXT,))
        shapes = [*SHAPES.values(), *EMPTY]
        tensors = [make(shape, getkey(), dtype) for shape in shapes]
        before = jax.tree_util.tree_map(np.array, tensors)
        found, kernels = _compiled(native, net, context, tensors)
    for tensor, updated in zip(tensors, found, strict=True):
        if tensor.param.size:
            assert_matches(updated, net, context, tensor, tolerance)
        else:
            assert updated.param.shape == tensor.shape and updated.state.shape == (2, *tensor.shape)
    # Kernels write over their operands; those that a caller has kept are copied first.
    jax.tree_util.tree_map(np.testing.assert_array_equal, tensors, before)
    # Single elements have no kernel, and one source serves all shapes that are laid out alike.
    assert len(kernels) == sum(tensor.param.size > 1 for tensor in tensors)
    assert len(set(kernels)) <= 5
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_is_donated_is_written_over(native: Native, getkey: Callable[[], Array]) -> None:
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((70, 72), getkey())
    kept = jax.tree_util.tree_map(np.array, tensor)

    @jax.jit(donate_argnums=0)
    def kernel(own: tuple[Array, Any], operands: Any) -> Updated:
        return native.network_update(POINTWISE, net, context, [Tensor(*own, operands)])[0]

    found = kernel((tensor.param, tensor.state), tensor.operands)
    assert tensor.param.is_deleted() and tensor.state.is_deleted()
    assert_matches(found, net, context, Tensor(*kept), 1e-4)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf], ids=str)
def test_what_is_not_finite_spreads_as_in_the_reference(
    native: Native, value: float, getkey: Callable[[], Array]
) -> None:
    net, context = network(getkey()), jr.normal(getkey(), (CONTEXT,))
    tensor = make((70, 72), getkey())
    grad = tensor.operands.grad.at[3, 5].set(value)
    tensor = tensor._replace(operands=tensor.operands._replace(grad=grad))
    (found,), (wanted,) = apply(native, net, context, [tensor]), apply(XLA(), net, context, [tensor])
    assert np.isnan(wanted.param).any()
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


# What goes wrong.


def _simple(tweak: Callable[[Array], Array] = lambda x: x) -> Pointwise:
    """A rule that no other test has compiled."""
    scale = 1 / next(_numbers)
    return Pointwise(
        lambda param, state, grad: (None, (param, grad)),
        lambda seen: [Feature(seen[0]), Feature(tweak(seen[1]))],
        lambda seen, outputs: seen[0] - scale * outputs[0],
    )


@pytest.fixture
def problem(getkey: Callable[[], Array]) -> tuple[Network, Array, list[Tensor]]:
    def tensor(*shape: int) -> Tensor:
        return Tensor(jr.normal(getkey(), shape), None, jr.normal(getkey(), shape))

    return Network.create([2, 4, 1], key=getkey()), jnp.zeros(0), [tensor(40, 50), tensor(60, 50), tensor(3000)]


@pytest.fixture
def fresh(native: Native, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing has been compiled, and nothing logged."""
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path))
    monkeypatch.setattr(_native, "_unusable", {})
    return tmp_path / "native"


def _falls_back(
    caplog: pytest.LogCaptureFixture, problem: tuple[Network, Array, list[Tensor]], rule: Pointwise, reason: str
) -> None:
    """The reference runs, in two programs for three tensors, and one line says why."""
    net, context, tensors = problem
    for _ in range(2):
        found, wanted = (apply(backend, net, context, tensors, rule) for backend in (Native(smallest=2), XLA()))
        jax.tree_util.tree_map(np.testing.assert_array_equal, found, wanted)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith("metaopt: no native kernel, the XLA path runs instead: ") and reason in line, line


def test_without_a_compiler(
    fresh: Path, problem: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    _compile.compiler.cache_clear()
    try:
        assert "there is no C++ compiler" in (Native.unusable() or "")
        _falls_back(caplog, problem, _simple(), "there is no C++ compiler")
    finally:
        _compile.compiler.cache_clear()
    assert not fresh.exists()


@pytest.mark.parametrize("content", ["", "#!/bin/sh\nexit 1\n"], ids=["not a program", "failing"])
def test_a_compiler_that_does_not_run_is_passed_over(
    native: Native, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "c++"
    broken.write_text(content)
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    _compile.compiler.cache_clear()
    try:
        found = _compile.compiler()
        assert found is not None and found[0] != str(broken)
    finally:
        _compile.compiler.cache_clear()


def test_a_failing_compiler_is_tried_once(
    fresh: Path, problem: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_native, "write", lambda *_: "this is not C++")
    calls, compile_it = [], _compile._compile
    monkeypatch.setattr(_compile, "_compile", lambda *arguments: calls.append(1) or compile_it(*arguments))
    _falls_back(caplog, problem, _simple(), "error: ")
    assert len(calls) == 1
    assert list(fresh.iterdir()) == []


@pytest.mark.parametrize("name", ["cumsum", "dot"])
def test_a_rule_that_is_not_elementwise(name: str, fresh: Path, problem: Any, caplog: pytest.LogCaptureFixture) -> None:
    tweak = {"cumsum": lambda x: jnp.cumsum(x, axis=-1), "dot": lambda x: x @ jnp.ones((x.shape[-1], 1))}[name]
    wanted = {"cumsum": "`cumsum` is not an elementwise", "dot": "`dot_general` is not an elementwise"}[name]
    _falls_back(caplog, problem, _simple(tweak), wanted)


def test_operands_of_another_type(fresh: Path, problem: Any, caplog: pytest.LogCaptureFixture) -> None:
    net, context, tensors = problem
    narrow = [tensor._replace(operands=tensor.operands.astype(jnp.bfloat16)) for tensor in tensors]
    _falls_back(
        caplog,
        (net, context, narrow),
        _simple(lambda x: x.astype(jnp.float32)),
        "an operand of type bfloat16 belongs to parameters of type float32",
    )


@pytest.mark.slow
def test_a_verdict_is_kept_and_what_is_damaged_is_made_again(
    fresh: Path, problem: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rule, tests = _simple(), []
    with monkeypatch.context() as patch:
        patch.setattr(_native, "self_test", lambda *_: tests.append(1) or "the self-test is not content")
        _falls_back(caplog, problem, rule, "the self-test is not content")
    # One kernel serves all three tensors.
    (file,) = fresh.glob("*.verdict")
    assert file.read_text().splitlines()[1:] == ["the self-test is not content"]
    assert len(tests) == 1
    # What was not written by a self-test of this library is not believed.
    file.write_text(f"{'0' * 64}\nok")
    net, context, tensors = problem
    apply(Native(smallest=2), net, context, tensors, rule)
    (again,) = fresh.glob("*.verdict")
    seal, text = again.read_text().splitlines()
    assert again == file and text == "ok" and seal != "0" * 64
    # The loader of the system does not survive a library that is cut off, as another process would find it.
    (library,) = fresh.glob("*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(_native, "_load", _compile.build)
    apply(Native(smallest=2), net, context, tensors[:1], rule)
    assert len(library.read_bytes()) == len(whole)
    assert "it is not what its `.sha256` says" in caplog.text


# The self-test.


def _reference(network: Network, context: Array, arrays: tuple[Any, ...]) -> Updated:
    return XLA().network_update(RULE, network, context, [Tensor(*arrays)])[0]


RULE = _simple()


def _slow(*arguments: Any) -> Updated:
    def wait(x: np.ndarray) -> np.ndarray:
        time.sleep(0.2)
        return x

    state, param = _reference(*arguments)
    return Updated(state, jax.pure_callback(wait, param, param))


KERNELS = {
    "ok": _reference,
    "an error of nan of the update": lambda *x: _reference(*x)._replace(param=x[2][0] + jnp.nan),
    "an error of 1.0e+00 of the update": lambda *x: _reference(*x)._replace(param=x[2][0]),
    "times as slow as the reference": _slow,
}


@pytest.mark.parametrize("said", KERNELS)
def test_the_self_test(said: str, problem: Any) -> None:
    net, _, tensors = problem
    large = Tensor(jnp.zeros((2**9, 2**10)), None, jnp.zeros((2**9, 2**10)))
    assert said in _self_test.self_test(net, 2, large, KERNELS[said], _reference)
    # The time of a small tensor is that of the call.
    small = "ok" if "slow" in said else said
    assert small in _self_test.self_test(net, 2, tensors[0], KERNELS[said], _reference)


def test_the_self_test_inside_of_a_trace(problem: Any) -> None:
    net, _, tensors = problem

    @jax.jit
    def traced(tensor: tuple[Any, ...]) -> Array:
        said.append(_self_test.self_test(net, 2, Tensor(*tensor), _reference, _reference))
        return tensor[0]

    said: list[str] = []
    traced(tensors[0][:3])
    assert said == ["ok"]
