"""What an iteration of Adam on a physics-informed loss costs, beside DeepXDE and jinns."""

import statistics
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._core import Inner, inner_step
from ...evaluate import BASELINES
from ...physics import PINN, Box, Dirichlet, Perceptron, Poisson
from .. import _peers
from .._timing import on_one_core, timed
from ..base import Budget, Claim, Report, Rival


_INTERIOR, _BOUNDARY, _WIDTH, _DEPTH = 2000, 200, 50, 4


def _source(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return 2 * jnp.pi**2 * jnp.prod(jnp.sin(jnp.pi * x), axis=1)


def poisson(interior: int, boundary: int, width: int, depth: int) -> PINN:
    """Poisson's equation in the unit square."""
    field = Perceptron((2, *[width] * depth, 1), "tanh")
    return PINN(Poisson(_source), [Dirichlet()], Box(), field=field, interior=interior, boundary=boundary)


def compiled(task: PINN, iterations: int) -> tuple[Callable[[Any], Any], Any]:
    """A program of some iterations of Adam, and where to start it."""
    algorithm = BASELINES["adam"](1e-3)
    params = task.init(key=jr.key(0))
    dynamic, static = eqx.partition(Inner(algorithm.init(params), params), eqx.is_array)

    @jax.jit
    def run(dynamic: Any) -> Any:
        def body(dynamic: Any, _: None) -> tuple[Any, Any]:
            carry, value = inner_step(algorithm, task, eqx.combine(dynamic, static), key=jr.key(0))
            return eqx.filter(carry, eqx.is_array), value

        return jax.lax.scan(body, dynamic, None, length=iterations)[0]

    return run.lower(dynamic).compile(), dynamic


def cost(iterations: int, blocks: int) -> tuple[float, float]:
    """The processor's and the clock's milliseconds per iteration."""
    program, carry = compiled(poisson(_INTERIOR, _BOUNDARY, _WIDTH, _DEPTH), iterations)
    cpu, wall = timed(lambda carry, _: program(carry), carry, iterations, blocks)
    return 1e3 * cpu, 1e3 * wall


def run(*, full: bool = False) -> Report:
    """Measure ourselves and the peers in turns, each in a process that has one core."""
    rounds, iterations, blocks = (9 if full else 5), 50, 5
    ours: list[Any] = []
    peers: dict[str, list[dict[str, Any]]] = {"DeepXDE": [], "jinns": []}
    scripts = {
        "DeepXDE": ("deepxde", "deepxde_throughput.py"),
        "jinns": ("jinns", "jinns_throughput.py"),
    }
    options = ["--iterations", iterations, "--blocks", blocks, "--width", _WIDTH, "--depth", _DEPTH]
    notes = []
    for _ in range(rounds):
        ours.append(on_one_core(__name__, "cost", iterations, blocks))
        for name, (peer, script) in list(scripts.items()):
            try:
                peers[name].append(_peers.run(_peers.interpreter(peer), script, *options, timeout=900))
            except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
                notes.append(f"{name} was not measured: {error}")
                del scripts[name]
    cpu, wall = (statistics.median(times[i] for times in ours) for i in range(2))
    rows = [{"library": "metaopt", "CPU-ms per iteration": cpu, "ms per iteration": wall, "rounds": len(ours)}]
    claims = []
    for name, found in peers.items():
        if not found:
            continue
        other = statistics.median(peer["cpu_ms"] for peer in found)
        rows.append(
            {
                "library": f"{name} {found[0]['version']}",
                "CPU-ms per iteration": other,
                "ms per iteration": statistics.median(peer["wall_ms"] for peer in found),
                "rounds": len(found),
            }
        )
        each = [peer["cpu_ms"] / times[0] for peer, times in zip(found, ours, strict=False)]
        note = f"{other:.3g} against {cpu:.3g} CPU-ms; {min(each):.3g} to {max(each):.3g} in single rounds"
        work = Budget(work=f"an iteration of Adam, {_INTERIOR} + {_BOUNDARY} points, {_DEPTH} x {_WIDTH} tanh")
        rival, left_out = Rival(name, work, found[0]["version"]), "compiling; GPUs; other equations and networks"
        claims.append(Claim(f"cpu_vs_{name.lower()}", other / cpu, note, budget=work, rival=rival, left_out=left_out))
    notes.append(
        f"Poisson's equation in the unit square, {_INTERIOR} + {_BOUNDARY} points, {_DEPTH} x {_WIDTH} tanh, Adam, "
        f"single precision. Medians of {rounds} rounds of {blocks} x {iterations} iterations, each process on one core."
    )
    return Report([0], rows, claims, notes)
