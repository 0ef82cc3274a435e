"""What one learned update of a million parameters costs beside Adam's, in time and in memory."""

import statistics
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array

from ..._core import AbstractAlgorithm, from_optax
from ...backend import XLA, find, unusable
from ...l2o import AdafacMLP, LossGuarded, Safeguarded
from ...l2o.parts._clocks import TIMESCALES
from ..base import Budget, Claim, Report, Rival, release


_Params: TypeAlias = dict[str, Array]
_Step: TypeAlias = Callable[[Any, _Params, _Params], tuple[Any, _Params]]

_HIDDEN = (32, 4)
_DECAYS = (0.9, 0.99, 0.999)


def _normal(seed: int) -> _Params:
    """Numbers of the size of weights: next to them, the rounding of a parameter does not hide that of its update."""
    first, second = jr.split(jr.key(seed))
    return {"w": jr.normal(first, (1000, 1000)) / 1000**0.5, "b": jr.normal(second, (1000,)) / 1000**0.5}


class Plain(eqx.Module):
    """The same rule as it is usually written: a matrix `[N, 39]` of features, written down and multiplied."""

    cell: AdafacMLP

    def init(self, params: _Params) -> tuple[Array, dict[str, Any]]:
        def one(x: Array) -> tuple[Array, ...]:
            shapes = [x.shape[:-1], x.shape[1:]] if x.ndim == 2 else [x.shape, (0,)]
            return jnp.zeros((3, *x.shape)), jnp.zeros_like(x), *[jnp.zeros((3, *shape)) for shape in shapes]

        return jnp.zeros((), jnp.int32), {name: one(x) for name, x in params.items()}

    def step(self, state: Any, params: _Params, grads: _Params) -> tuple[Any, _Params]:
        t, tensors = state
        stepped = {name: self._one(t, tensors[name], params[name], grads[name]) for name in params}
        return (t + 1, {k: v[0] for k, v in stepped.items()}), {k: v[1] for k, v in stepped.items()}

    def _one(self, t: Array, old: tuple[Array, ...], p: Array, g: Array) -> tuple[tuple[Array, ...], Array]:
        m, v, r, c = old

        def mixed(x: Array, decay: float, new: Array) -> Array:
            return decay * x + (1 - decay) * new

        m = jnp.stack([mixed(m[k], _DECAYS[k], g) for k in range(3)])
        v = mixed(v, 0.999, g**2)
        if p.ndim == 2:
            r = jnp.stack([mixed(r[k], _DECAYS[k], jnp.mean(g**2, 1) + 1e-30) for k in range(3)])
            c = jnp.stack([mixed(c[k], _DECAYS[k], jnp.mean(g**2, 0) + 1e-30) for k in range(3)])
            rows, cols = r[:, :, None] + 0 * m, c[:, None, :] + 0 * m
            row_factors = jax.lax.rsqrt(jnp.maximum(r / (jnp.mean(r, 1, keepdims=True) + 1e-9), 1e-9))[:, :, None]
            factors = row_factors * jax.lax.rsqrt(jnp.maximum(c, 1e-9))[:, None, :]
            momentum_factors = factors
        else:
            r = jnp.stack([mixed(r[k], _DECAYS[k], g**2 + 1e-30) for k in range(3)])
            rows, cols = r, r
            factors = jax.lax.rsqrt(jnp.maximum(r + 1e-9, 1e-9))
            momentum_factors = jax.lax.rsqrt(r + 1e-6)
        root = jax.lax.rsqrt(v + 1e-6)
        features = [g, p, *m, v, *(m * root), root, *(g * factors), *rows, *cols]
        features += [*jax.lax.rsqrt(rows + 1e-8), *jax.lax.rsqrt(cols + 1e-8), *(m * momentum_factors)]
        matrix = jnp.stack([f.reshape(-1) for f in features], axis=-1)
        matrix = matrix * jax.lax.rsqrt(jnp.mean(matrix**2, axis=0) + 1e-5)
        clock = jnp.tanh(t / jnp.asarray(TIMESCALES, p.dtype) - 1)
        x = jnp.concatenate([matrix, jnp.broadcast_to(clock, (p.size, clock.size))], axis=-1)
        *hidden, last = self.cell.network.layers
        for layer in hidden:
            x = jax.nn.relu(x @ layer.weight.T + layer.bias)
        direction, magnitude = (x @ last.weight.T + last.bias).T
        update = 1e-3 * direction * jnp.exp(1e-3 * magnitude)
        return (m, v, r, c), p - update.reshape(p.shape)


class _WithValue(eqx.Module):
    """A step that is told a loss."""

    inner: AbstractAlgorithm[Any, Any, Any]

    def init(self, params: _Params) -> Any:
        return self.inner.init(params)

    def step(self, state: Any, params: _Params, grads: _Params) -> tuple[Any, _Params]:
        return self.inner.step(state, params, grads, value=jnp.asarray(0.5))


def _program(
    algorithm: AbstractAlgorithm[Any, Any, Any] | Plain | _WithValue,
) -> tuple[Callable[..., Any], float, float]:
    """A compiled step that reuses the memory of its inputs, its temporary memory in MiB, and the seconds it took."""
    params = _normal(0)
    run = jax.jit(lambda *arguments: algorithm.step(*arguments), donate_argnums=(0, 1))
    begun = time.perf_counter()
    program = run.lower(algorithm.init(params), params, _normal(1)).compile()
    seconds = time.perf_counter() - begun
    analysis = program.memory_analysis()
    assert analysis is not None
    return program, analysis.temp_size_in_bytes / 2**20, seconds


def _adam() -> tuple[Callable[..., Any], Callable[[_Params], Any]]:
    """Optax's Adam, jitted as its users do."""
    tx = optax.adam(1e-3)

    def step(state: Any, params: _Params, grads: _Params) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return state, optax.apply_updates(params, updates)

    params = _normal(0)
    run = jax.jit(step, donate_argnums=(0, 1))
    with jax.numpy_dtype_promotion("standard"):
        return run.lower(tx.init(params), params, _normal(1)).compile(), tx.init


def _guarded() -> dict[str, AbstractAlgorithm[Any, Any, Any]]:
    """Adam with guards around it, which compute the same whether they accept or reject."""
    adam, sgd = from_optax(optax.adam, learning_rate=1e-3), from_optax(optax.sgd, learning_rate=0.1)
    return {
        "Safeguarded(adam, sgd)": Safeguarded(adam, sgd),
        "Safeguarded(adam, sgd), by gradient": Safeguarded(adam, sgd, "gradient"),
        "LossGuarded(adam, sgd)": LossGuarded(adam, sgd),
    }


class _Runner:
    """Takes steps, each from where the one before ended, and keeps their times."""

    def __init__(self, step: _Step, state: Any):
        self.step, self.state, self.params = step, state, _normal(0)
        self.grads = _normal(1)
        self.seconds: list[float] = []

    def __call__(self) -> None:
        begun = time.perf_counter()
        self.state, self.params = jax.block_until_ready(self.step(self.state, self.params, self.grads))
        self.seconds.append(time.perf_counter() - begun)

    def median(self) -> float:
        return statistics.median(self.seconds[1:])


def _relative_error(cell: AdafacMLP) -> float:
    """How far three updates are from those of the plain formulation, relative to the largest of them."""
    params, plain = _normal(0), Plain(cell)
    ours, theirs = (cell.init(params), params), (plain.init(params), params)
    ours_step, theirs_step = (jax.jit(lambda *x, rule=rule: rule.step(*x)) for rule in (cell, plain))
    for seed in range(1, 4):
        ours, theirs = ours_step(*ours, _normal(seed)), theirs_step(*theirs, _normal(seed))
    errors = []
    for name, start in params.items():
        expected = np.asarray(theirs[1][name] - start)
        errors.append(np.max(np.abs(np.asarray(ours[1][name] - start) - expected)) / np.max(np.abs(expected)))
    return float(max(errors))


def _median_seconds(run: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(8):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[2:])


def _speed() -> float:
    """Floating-point operations per second of a large matrix product, the faster of XLA's and NumPy's."""
    size = 2048
    x = jr.normal(jr.key(0), (size, size))
    host, multiply = np.asarray(x), jax.jit(jnp.dot)
    return 2 * size**3 / min(_median_seconds(lambda: multiply(x, x)), _median_seconds(lambda: host @ host))


def _bandwidth(size: int) -> float:
    """Bytes per second, read and written in place, of arrays that together have the size of all that a step touches."""
    arrays = [jnp.full(size, 1.0) for _ in range(6)]
    add = jax.jit(lambda xs: [x + 1 for x in xs], donate_argnums=0)

    def run() -> list[Array]:
        arrays[:] = add(arrays)
        return arrays

    return 6 * 2 * 4 * size / _median_seconds(run)


def _floor(cell: AdafacMLP, size: int, speed: float, bandwidth: float) -> float:
    """Seconds that no step can do without: for the products of its network, or for what it reads and writes.

    Of the 28 features, 12 belong to rows and columns and are free. Features need the means of the gradient over rows
    and columns, and steps need the mean squares of features, so gradients are read three times, parameters and the
    four averages twice, and all but the gradients are written.
    """
    sizes = [16, *[layer.weight.shape[0] for layer in cell.network.layers]]
    products = 2 * size * sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    return max(products / speed, 4 * (3 + 2 * 5 + 5) * size / bandwidth)


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes more rounds."""
    rounds = 41 if full else 15
    params = _normal(0)
    adam, adam_init = _adam()
    runners = {"optax.adam": _Runner(adam, adam_init(params))}
    temporary, compiling, errors = {}, {}, {}
    for name, guarded in _guarded().items():
        rule = _WithValue(guarded)
        program, temporary[name], compiling[name] = _program(rule)
        runners[name] = _Runner(program, rule.init(params))
    native = None if unusable("native") else find("native")()
    for hidden in _HIDDEN:
        cell = AdafacMLP(hidden, key=jr.key(hidden), backend=XLA())
        rules: dict[str, AdafacMLP | Plain] = {"": cell, ", plain": Plain(cell)}
        if native is not None:
            rules[", native"] = AdafacMLP(hidden, key=jr.key(hidden), backend=native)
        for form, rule in rules.items():
            name = f"AdafacMLP({hidden}){form}"
            program, temporary[name], compiling[name] = _program(rule)
            runners[name] = _Runner(program, rule.init(params))
            if not isinstance(rule, Plain):
                errors[f"h{hidden}{form.replace(', ', '_')}"] = _relative_error(rule)
    # Alternating, so that all meet the same load; but the usual form by itself: it frees so much memory that the next
    # one would be slowed down.
    usual = [name for name in runners if name.endswith("plain")]
    for names in ([name for name in runners if name not in usual], usual):
        for _ in range(rounds):
            for name in names:
                runners[name]()
    reference = runners["optax.adam"].median()
    size = sum(x.size for x in params.values())
    rows = [
        {
            "rule": name,
            "ms": 1e3 * runner.median(),
            "ns/parameter": 1e9 * runner.median() / size,
            "of Adam": runner.median() / reference,
            "temporary MiB": temporary.get(name, "-"),
            "compile s": compiling.get(name, "-"),
        }
        for name, runner in runners.items()
    ]
    note = f"median of {rounds - 1}, alternating with optax.adam ({1e3 * reference:.2f} ms)"
    speed, bandwidth = _speed(), _bandwidth(size)
    work = Budget(work=f"an update of {size:,} parameters")
    terms: dict[str, Any] = {"budget": work, "rival": Rival("optax.adam", work, release("optax"))}
    terms["left_out"] = "what an update is worth; the gradient's own cost; other sizes and shapes"
    guarded, worst = "Safeguarded(adam, sgd)", 0.0
    ratio = runners[guarded].median() / reference
    claims = [Claim("safeguarded_vs_adam", ratio, note, **terms, compile_seconds=compiling[guarded])]
    for hidden in _HIDDEN:
        floor = _floor(AdafacMLP(hidden), size, speed, bandwidth)
        limit = f"{note}; its products, or what it must read and write, take {floor / reference:.1f}"
        for form, prefix in (("", "xla"), (", native", "native")):
            runner = runners.get(f"AdafacMLP({hidden}){form}")
            if runner is not None:
                ratio, name = runner.median() / reference, f"{prefix}_h{hidden}_vs_adam"
                seconds = compiling[f"AdafacMLP({hidden}){form}"]
                claims.append(Claim(name, ratio, limit, **terms, compile_seconds=seconds))
                worst = max(worst, runner.median() / floor) if form else worst
    if native is not None:
        claims.append(Claim("native_vs_floor", worst, "the larger of both sizes", rival=None))
    most = max(temporary[f"AdafacMLP({hidden})"] for hidden in _HIDDEN)
    claims.append(Claim("xla_temp_mib", most, "the larger", rival=None))
    claims += [
        Claim(f"relative_error_{name}", error, "after three updates, against the plain formulation", rival=None)
        for name, error in errors.items()
    ]
    notes = [
        f"{size:,} parameters: a matrix of 1000 x 1000 and a vector of 1000, in float32; inputs are donated.",
        f"A product of two 2048 x 2048 matrices runs at {speed / 1e9:.0f} GFLOP/s here, and arrays of this size are "
        f"read and written at {bandwidth / 1e9:.0f} GB/s.",
    ]
    if native is None:
        notes.append(f"The native backend was not measured: {unusable('native')}.")
    return Report([0], rows, claims, notes)
