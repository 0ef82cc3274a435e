"""Numbers that are known, computed on this machine."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from .._core import AbstractLossTask, Learner, from_optax, load, save, unroll
from .._core._algorithm import AbstractAlgorithm
from ..backend import XLA, AbstractBackend, Feature, Network, Pointwise, Tensor, automatic
from ..bench.meta import _estimators
from ..l2o import LearnableSGD, pretrained
from ..meta import PES
from ..meta._known_answer import truth


_RATE, _STEPS = 0.05, 20


class Skipped(Exception):
    """Raised by a test that has nothing to test on this machine; the text says why."""


class _Parabola(AbstractLossTask[Array]):
    """f(x) = |x|^2 / 2 from x = 1."""

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        del key
        return jnp.ones(64)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * jnp.sum(params**2)

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


def adam() -> tuple[float, str]:
    """Ten steps of Adam against its formula in double precision."""
    rule = from_optax(optax.adam(0.1))
    grads = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)

    @jax.jit
    def run(params: Array, grads: Array) -> Array:
        def body(carry: Any, grad: Array) -> Any:
            state, params = carry
            return rule.step(state, params, grad), None

        return jax.lax.scan(body, (rule.init(params), params), grads)[0][1]

    found = run(jnp.zeros(64), jnp.asarray(grads))
    wanted, first, second = np.zeros(64), np.zeros(64), np.zeros(64)
    for t, grad in enumerate(grads.astype(np.float64), 1):
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        wanted -= 0.1 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return _error(found, wanted), ""


def meta_gradient() -> tuple[float, str]:
    """The derivative of a loss after some steps with respect to the rate: (1 - a)^(2 t) / 2 is known at each step."""

    @eqx.filter_jit
    def slope(rule: AbstractAlgorithm[Any, Any, Any]) -> Array:
        def mean(rule: AbstractAlgorithm[Any, Any, Any]) -> Array:
            return jnp.mean(unroll(Learner(rule), _Parabola(), steps=_STEPS, key=jr.key(0)).values)

        return jtu.tree_leaves(eqx.filter_grad(mean)(rule))[0]

    t = np.arange(_STEPS)
    wanted = 64 * np.mean(-_RATE * t * (1 - _RATE) ** (2.0 * t - 1))
    return _error(slope(LearnableSGD(_RATE)), wanted), ""


def evolution() -> tuple[float, str]:
    """The bias of a meta-gradient by persistent evolution strategies, in standard errors."""
    means = _estimators._estimates(PES(0.01, 5), windows=4, tasks=32, replicates=32).mean(1)
    error = means.std(ddof=1) / np.sqrt(means.size)
    wanted = truth(_estimators._RATE, _estimators._HORIZON)
    bias = abs(means.mean() - wanted)
    return float(bias / error), f"{means.mean():.5f} +- {error:.5f}, {wanted:.5f} is right; in errors"


def kernels() -> tuple[float, str]:
    """One update by a small network: the backend that is taken here against `xla`."""
    backend = automatic()
    if isinstance(backend, XLA):
        raise Skipped("no backend but `xla` can be used here")
    rule = Pointwise(
        lambda param, state, grad: (None, (param, grad)),
        lambda seen: [Feature(seen[0]), Feature(seen[1])],
        lambda seen, outputs: seen[0] - 0.1 * outputs[0],
    )
    network, param, grad = Network.create([2, 4, 1], key=jr.key(0)), *jr.normal(jr.key(1), (2, 128, 128))

    def update(backend: AbstractBackend) -> Array:
        def kernel(network: Network, param: Array, grad: Array) -> Array:
            return backend.network_update(rule, network, jnp.zeros(0), [Tensor(param, None, grad)])[0].param

        return jax.jit(kernel)(network, param, grad)

    heard = _Heard()
    logger = logging.getLogger("metaopt")
    logger.addHandler(heard)
    try:
        found = update(backend)
    finally:
        logger.removeHandler(heard)
    return _error(found, np.asarray(update(XLA()), np.float64)), heard.text or f"{type(backend).__name__} against XLA"


class _Heard(logging.Handler):
    """The last thing that was logged, such as why the reference runs."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.text = record.getMessage()


def sharded_sum() -> tuple[float, str]:
    """A sum over all devices of this process."""
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(np.array(devices), ("all",))
    numbers = np.arange(64 * len(devices), dtype=np.float32)
    spread = jax.device_put(numbers, NamedSharding(mesh, PartitionSpec("all")))
    found = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(spread)
    return _error(found, numbers.astype(np.float64).sum()), f"over {len(devices)} of {jax.device_count()} devices"


def round_trip() -> tuple[float, str]:
    """Arrays of many kinds through a file; how many come back changed."""
    tree = {
        "single": jr.normal(jr.key(0), (100,)),
        "half": jr.normal(jr.key(1), (100,)).astype(jnp.bfloat16),
        "whole": jnp.arange(7),
        "no": jnp.zeros((0, 3)),
        "infinite": jnp.asarray([jnp.inf, -jnp.inf]),
        "key": jr.split(jr.key(2), 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, "tree.metaopt"), tree)
        found = load(Path(folder, "tree.metaopt"), jtu.tree_map(lambda x: x, tree))

    def data(x: Array) -> bytes:
        return np.asarray(jr.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x).tobytes()

    changed = [name for name in tree if data(tree[name]) != data(found[name])]
    return float(len(changed)), ", ".join(changed)


def products() -> tuple[float, str]:
    """A product of matrices in single precision, which devices compute in less if they are let to."""
    a, b = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    found = jax.jit(jnp.matmul)(jnp.asarray(a), jnp.asarray(b))
    return _error(found, a.astype(np.float64) @ b.astype(np.float64)), ""


def double() -> tuple[float, str]:
    """The same in double precision, which is asked for where physics needs it."""
    a, b = np.random.default_rng(0).normal(size=(2, 64, 64))
    with jax.enable_x64(True):
        found = jax.jit(jnp.matmul)(jnp.asarray(a), jnp.asarray(b))
        return _error(found, a @ b), found.dtype.name


def weights() -> tuple[float, str]:
    """The pretrained optimizer on a parabola: the last loss of 50 steps by the first one."""

    @eqx.filter_jit
    def run(rule: AbstractAlgorithm[Any, Any, Any]) -> Array:
        return unroll(Learner(rule), _Parabola(), steps=50, key=jr.key(0)).values

    values = np.asarray(run(pretrained("small")), np.float64)
    return float(values[-1] / values[0]), "the last loss by the first"


# What is tested, by a name for people, with the largest error that is healthy. Products in TF32 or bfloat16 have 1e-3
# to 4e-3; five standard errors of chance, of which numbers with other random bits may have any, are one in two million.
CHECKS: dict[str, tuple[Callable[[], tuple[float, str]], float]] = {
    "adam against its formula": (adam, 1e-4),
    "gradient through 20 steps": (meta_gradient, 1e-4),
    "evolution strategies, bias": (evolution, 5.0),
    "kernel of a learned rule": (kernels, 1e-3),
    "sum over devices": (sharded_sum, 1e-5),
    "save and load, what is changed": (round_trip, 0.0),
    "product of matrices": (products, 1e-2),
    "product in double precision": (double, 1e-12),
    "pretrained optimizer on a parabola": (weights, 0.5),
}


def _error(found: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest number."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))
