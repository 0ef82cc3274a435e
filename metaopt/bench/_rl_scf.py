"""Level shifts and damping by a learned policy, on molecules that it has not seen."""

import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .. import rl
from .._core import ClipByGlobalNorm, from_optax
from ..scf import RESULTS, Operator, Solution, Steered, System, pad, solve, stack
from ..scf._guess import initial
from ..scf._operator import loewdin
from ..scf._solve import Point, look, signal
from ..schedules import Linear
from .base import Claim, Report


# Distances in Angstrom of short bonds.
_BONDS = {"O": 1.62, "N": 1.58, "F": 1.80, "C": 1.60}
_NUMBERS = {"Sc": 21, "Ti": 22, "V": 23, "Cr": 24, "Mn": 25, "Fe": 26, "Co": 27, "Ni": 28, "Cu": 29, "Zn": 30}
_NUMBERS |= {"C": 6, "N": 7, "O": 8, "F": 9}
_TRAINED = (("Sc", "V", "Mn", "Fe", "Ni", "Zn"), (0.95, 1.05, 1.15, 1.3))
_TESTED = (("Ti", "Cr", "Co", "Cu"), (1.0, 1.1, 1.25))
# Shifts in hartree, and damping; the first changes nothing.
_CHOICES = ((0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.0, 0.3), (0.0, 0.6), (0.3, 0.3))
_CYCLES, _UPDATES, _SEEDS = 100, 100, 3


def _molecules(metals: tuple[str, ...], lengths: tuple[float, ...]) -> list[System]:
    """Closed shells of a metal and a main-group atom, neutral or positive, at several distances."""
    found = []
    for metal in metals:
        for other, bond in _BONDS.items():
            # The charge with an even number of electrons.
            charge = (_NUMBERS[metal] + _NUMBERS[other]) % 2
            for length in lengths:
                atoms = [(metal, (0.0, 0.0, 0.0)), (other, (0.0, 0.0, bond * length))]
                found.append(System.from_pyscf(atoms, basis="sto-3g", charge=charge, spin=0, restricted=True))
    return found


def _stacked(systems: list[System]) -> System:
    pairs = max(system.electrons[0] for system in systems)
    functions = max(system.functions + pairs - system.electrons[0] for system in systems)
    return stack([pad(system, functions, (pairs, pairs)) for system in systems])


class _Running(eqx.Module):
    system: Int[Array, ""]
    point: Point
    accelerator: PyTree
    clock: Int[Array, ""]


class _Calculations(rl.AbstractEnvironment[_Running]):
    """A calculation is an episode, a cycle is a step. Each costs 0.1, less where the gradient falls."""

    systems: System
    steered: Steered
    horizon: int = eqx.field(static=True, default=60)

    @property
    def space(self) -> rl.Discrete:
        return rl.Discrete(self.steered.choices.shape[0])

    @property
    def observation_size(self) -> int:
        return self.steered.features

    def _operator(self, index: Int[Array, ""]) -> tuple[Operator, Float[Array, "n n"]]:
        return loewdin(jtu.tree_map(lambda x: x[index], self.systems))[:2]

    def reset(self, *, key: PRNGKeyArray) -> tuple[_Running, Float[Array, " features"]]:
        index = jr.randint(key, (), 0, self.systems.overlap.shape[0])
        operator, root = self._operator(index)
        point = look(operator, initial(operator, root, None))
        state = self.steered.init(point.fock)
        seen = self.steered.observe(state, point.fock, signal(operator, point))
        return _Running(index, point, state, jnp.zeros((), jnp.int32)), seen

    def step(self, state: _Running, action: Array, *, key: PRNGKeyArray) -> tuple[_Running, rl.Timestep]:
        del key
        operator, _ = self._operator(state.system)
        old = state.point
        inner, fock = self.steered.act(state.accelerator, old.fock, signal(operator, old), action, value=old.energy)
        point = look(operator, operator.system.occupy(fock))
        met = (jnp.abs(point.energy - old.energy) < 1e-9) & (point.gradient_norm < 1e-5)
        fall = jnp.log10((old.gradient_norm + 1e-5) / (point.gradient_norm + 1e-5))
        seen = self.steered.observe(inner, point.fock, signal(operator, point))
        clock = state.clock + 1
        told = rl.Timestep(seen, 0.03 * fall - 0.1, met, ~met & (clock >= self.horizon))
        return _Running(state.system, point, inner, clock), told


@eqx.filter_jit
def _solved(systems: System, accelerator: Any) -> Solution:
    return eqx.filter_vmap(lambda system: solve(system, accelerator, max_cycles=_CYCLES))(systems)


def run(*, full: bool = False) -> Report:
    """Three seeds of an agent; `full` trains them three times as long."""
    with jax.enable_x64(True):
        return _run(_TRAINED, _TESTED, 3 * _UPDATES if full else _UPDATES, list(range(_SEEDS)))


def _run(trained: Any, tested: Any, updates: int, seeds: list[int]) -> Report:
    begun = time.process_time()
    systems = {"trained on": _stacked(_molecules(*trained)), "unseen": _stacked(_molecules(*tested))}
    environment = _Calculations(systems["trained on"], Steered(choices=jnp.asarray(_CHOICES)))
    outer = Linear(ClipByGlobalNorm(from_optax(optax.adam, learning_rate=2e-3), 1.0), horizon=8 * updates)
    agent = rl.DQN(outer=outer, environments=48, returns=3, discount=0.97, target_rate=0.02)
    actors = [rl.train(agent, environment, steps=updates, key=jr.key(seed), progress=False).actor for seed in seeds]
    spent = (time.process_time() - begun) / len(seeds)
    rows, ratios, lost = [], [], []
    for name, stacked in systems.items():
        default = _solved(stacked, None)
        converged = default.result == RESULTS.converged
        for seed, actor in zip(seeds, actors, strict=True):
            found = _solved(stacked, Steered(actor=actor, choices=jnp.asarray(_CHOICES)))
            kept = found.result == RESULTS.converged
            builds = [int(jnp.sum(each.fock_builds)) for each in (default, found)]
            rows.append(
                {
                    "molecules": name,
                    "seed": seed,
                    "of": int(converged.size),
                    "default, builds": builds[0],
                    "builds": builds[1],
                    "default, converged": int(jnp.sum(converged)),
                    "converged": int(jnp.sum(kept)),
                    "lost": int(jnp.sum(converged & ~kept)),
                    "higher": int(jnp.sum(converged & kept & (found.energy > default.energy + 1e-6))),
                    "lower": int(jnp.sum(converged & kept & (found.energy < default.energy - 1e-6))),
                }
            )
            if name == "unseen":
                ratios.append(builds[1] / builds[0])
                lost.append(rows[-1]["lost"])
    spread = f"median of {len(seeds)} seeds, {min(ratios):.3g} to {max(ratios):.3g}; {rows[-1]['of']} molecules"
    claims = [
        Claim("fock_builds_ratio", statistics.median(ratios), spread),
        Claim("unconverged", float(max(lost)), "most of a seed, of those that the default converges"),
    ]
    notes = [
        f"Closed shells of a transition metal and another atom in STO-3G, {', '.join(trained[0])} to train on and "
        f"{', '.join(tested[0])} unseen. What does not converge counts with {_CYCLES + 1} builds. `higher` and "
        "`lower`: energies apart from the default's by more than 1e-6 hartree.",
        f"Training takes {spent:.0f} CPU seconds with its compilation.",
    ]
    return Report(seeds, rows, claims, notes)
