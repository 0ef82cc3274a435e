"""The fused learned update and meta-training on a GPU."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array

from ...backend import XLA, find
from ...l2o import AdafacMLP
from ...spec import SpecError
from ..base import Budget, Claim, Report, Rival, release
from ..l2o._update_cost import Plain
from ..meta._throughput import compile_meta_steps


_ROUNDS = 5
_TRUNCATION = 20
# A step reads parameters, gradients, three momenta and the second moments twice, once more the gradients, and writes
# all but the gradients; Adam reads four arrays and writes three.
_BYTES = {"adam": 4 * 7, "fused": 4 * (1 + 6 + 6 + 5)}


def _tensor(size: int, seed: int) -> dict[str, Array]:
    rows = 10 ** (len(str(size)) // 2)
    return {"w": jr.normal(jr.key(seed), (rows, size // rows)) / rows**0.5}


def _seconds(step: Callable[[Any, Any, Any], tuple[Any, Any]], init: Callable[[Any], Any], size: int) -> float:
    """The median time of one step, in loops long enough to hide how long it takes to start one."""
    run = jax.jit(lambda *x: step(*x), donate_argnums=(0, 1))  # a method of a module has no hash
    params, grads = _tensor(size, 0), _tensor(size, 1)
    state = jax.jit(lambda x: init(x))(params)
    state, params = run(state, params, grads)
    state, params = jax.block_until_ready(run(state, params, grads))
    count = max(3, min(100, 10**9 // size))
    found = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for _ in range(count):
            state, params = run(state, params, grads)
        jax.block_until_ready((state, params))
        found.append((time.perf_counter() - begun) / count)
    return statistics.median(found)


def _bandwidth() -> float:
    """Bytes per second of a large copy, read and written."""
    x = jnp.zeros(2**28)
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jax.block_until_ready(copy(x))
    found = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for _ in range(10):
            x = copy(x)
        jax.block_until_ready(x)
        found.append((time.perf_counter() - begun) / 10)
    return 2 * 4 * 2**28 / statistics.median(found)


def _rules(hidden: int) -> dict[str, Any]:
    cells = {
        "fused": AdafacMLP(hidden, key=jr.key(hidden), backend=find("pallas")()),
        "xla": AdafacMLP(hidden, key=jr.key(hidden), backend=XLA()),
    }
    return {**cells, "plain": Plain(cells["xla"])}


def _updates(sizes: list[int]) -> tuple[list[dict[str, Any]], dict[tuple[str, int, int], float]]:
    tx, rows, found = optax.adam(1e-3), [], {}
    bandwidth = _bandwidth()

    def adam(state: Any, params: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return state, optax.apply_updates(params, updates)

    for size in sizes:
        reference = _seconds(adam, tx.init, size)
        rules = {("adam", 0): (adam, tx.init)}
        for hidden in (4, 32):
            rules |= {(name, hidden): (rule.step, rule.init) for name, rule in _rules(hidden).items()}
        for (name, hidden), (step, init) in rules.items():
            row = {"rule": name, "hidden": hidden or "-", "parameters": size}
            try:
                seconds = reference if name == "adam" else _seconds(step, init, size)
            except jax.errors.JaxRuntimeError as error:
                rows.append({**row, "ns/parameter": "-", "note": str(error).splitlines()[0][:60]})
                continue
            found[name, hidden, size] = seconds
            moved = _BYTES.get(name)
            share = f"{100 * moved * size / seconds / bandwidth:.0f}%" if moved else "-"
            figures = {"ns/parameter": 1e9 * seconds / size, "of Adam": seconds / reference, "of bandwidth": share}
            rows.append({**row, **figures})
    return rows, found


def _error(hidden: int) -> float:
    """How far a fused update is from that of the reference, relative to the largest of it."""
    params, grads = _tensor(10**6, 0), _tensor(10**6, 1)
    steps = {}
    for name, cell in _rules(hidden).items():
        # The plain form is what the others are held against, so its products are in full precision here.
        with jax.default_matmul_precision("highest"):
            _, new = jax.jit(lambda *x, cell=cell: cell.step(*x))(cell.init(params), params, grads)
        steps[name] = np.asarray(new["w"] - params["w"], np.float64)
    return float(np.max(np.abs(steps["fused"] - steps["plain"])) / np.max(np.abs(steps["plain"])))


def _throughput(tasks: list[int]) -> list[dict[str, Any]]:
    rows = []
    for count in tasks:
        program, state, seconds = compile_meta_steps(5, 1, tasks=count, batch_size=None)
        state = jax.block_until_ready(program(state, jr.key(0)))
        found = []
        for i in range(_ROUNDS):
            begun = time.perf_counter()
            state = jax.block_until_ready(program(state, jr.key(i)))
            found.append((time.perf_counter() - begun) / 5)
        step = statistics.median(found)
        inner = 2 * count * _TRUNCATION / step
        rows.append({"tasks": count, "ms/meta-step": 1e3 * step, "inner steps/s": inner, "compile s": seconds})
    return rows


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` goes up to 1e8 parameters and 4096 tasks."""
    if jax.default_backend() != "gpu":
        raise SpecError("", f"this benchmark needs a GPU, and jax runs on {jax.default_backend()} here.")
    sizes, tasks = ([10**6, 10**7, 10**8], [16, 256, 4096]) if full else ([10**6, 10**7], [16, 256])
    rows, found = _updates(sizes)
    claims = []
    for hidden in (4, 32):
        size = max(size for name, h, size in found if (name, h) == ("plain", hidden))
        fused, note = found["fused", hidden, size], f"at {size:.0e} parameters"
        ratios = {name: found[name, hidden, size] / fused for name in ("xla", "plain")}
        work = Budget(work=f"an update of {size:.0e} parameters")
        adam = Rival("optax.adam", work, release("optax"))
        own = {name: Rival(f"our own form `{name}`", work) for name in ratios}
        terms: dict[str, Any] = {"budget": work, "left_out": "compiling; PyLO's CUDA kernel, which was not run here"}
        claims += [
            Claim(f"fused_h{hidden}_vs_adam", fused / found["adam", 0, size], note, rival=adam, **terms),
            *[
                Claim(f"fused_h{hidden}_vs_{name}", x, f"times as fast, {note}", rival=own[name], **terms)
                for name, x in ratios.items()
            ],
            Claim(f"relative_error_h{hidden}", _error(hidden), "of an update, against the plain form", rival=None),
        ]
    device = jax.devices()[0].device_kind
    notes = [f"{device}; medians of {_ROUNDS}. Meta-training as in `meta-throughput`, on this one device:"]
    rows += _throughput(tasks)
    return Report([0], rows, claims, notes)
