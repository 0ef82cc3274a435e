"""Which families of a mixture are trained on, and when."""

import math
import random
from typing import NamedTuple

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..._core import Mixture
from ..._core.arrays._numbers import COUNT


class Rotation(eqx.Module):
    r"""Train on a mixture of many families, a few at a time, each with a compiled program of its own.

    Of all families, `resident` have running episodes. Every meta-step, `per_step` of these are drawn, their
    meta-gradients are estimated, and added up as [`metaopt.meta.Mixed`][] does. Every `every` meta-steps the family
    that has been resident for longest makes room for another one, drawn by the weights of the mixture; its program is
    compiled in the background before. Families that have equal shapes and differ in numbers only share a program: see
    [`metaopt.tasks.generate`][] with `buckets`.

    In the beginning `per_step` families are resident, and the others join one by one within the first `every`
    meta-steps, so that training begins when the first programs are ready.

    The gradient is that of the mixture in expectation: while there are $J$ residents with shares $w_j$ among them, a
    family that is drawn counts $w_j J / k$ with $k$ the families per step. Families that take turns were drawn by
    weight, so they count alike, $w_j = 1 / J$; only in a mixture that has room as a whole, $w_j$ are its shares. Over
    many turns each family has about its share of meta-steps, but for those whose share is above that of one seat.

    Who is resident when, and who is drawn, are functions of the run's key and the meta-step. So a run that was
    interrupted and resumed gives the same bits as one that was not, and waits rather than leaves out a family whose
    program is not ready.

    **Arguments:**

    - `resident`: how many families have running episodes; their states are what memory is needed for.
    - `per_step`: how many of them are looked at in a meta-step.
    - `every`: meta-steps between two changes; `None` means that nobody makes room.

    **Raises:**

    - `ValueError`: if one of them is below 1, or `per_step` is above `resident`.
    """

    resident: int = eqx.field(static=True, default=8)
    per_step: int = eqx.field(static=True, default=4)
    every: int | None = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        COUNT.check(resident=self.resident, per_step=self.per_step, every=self.every)
        if self.per_step > self.resident:
            raise ValueError(
                f"`per_step={self.per_step}` families cannot be drawn of `resident={self.resident}`. Have more of them "
                "resident."
            )


class Turn(NamedTuple):
    """A family takes a seat.

    - `step`: before which meta-step, from 0.
    - `seat`: which seat, below `resident`.
    - `family`: the index of the family in the mixture.
    """

    step: int
    seat: int
    family: int


class Timetable:
    """Who sits where, for a run with a certain key."""

    def __init__(self, rotation: Rotation, families: Mixture, key: PRNGKeyArray):
        self.rotation, self.shares = rotation, families.shares
        self.count = len(self.shares)
        self.seats = min(rotation.resident, self.count)
        self.per_step = min(rotation.per_step, self.seats)
        self.every = None if self.seats == self.count else rotation.every
        self.seed = np.asarray(jr.key_data(key)).tobytes()
        # Seats are filled within the first turn.
        self.filling = max(1, (rotation.every or self.seats) // self.seats)
        self.turns: list[Turn] = []
        self._draws = self._random("turns")
        self._sitting: list[int] = []

    def _random(self, what: str) -> random.Random:
        # The numbers of `random.random` after seeding with bytes are the same in all versions of Python.
        return random.Random(self.seed + what.encode())

    def turn(self, number: int) -> Turn:
        """The turn of that number, from 0."""
        while len(self.turns) <= number:
            index = len(self.turns)
            seat = index % self.seats
            if index < self.seats:
                step = max(0, index + 1 - self.per_step) * self.filling
                family = index if self.seats == self.count else self._draw()
                self._sitting.append(family)
            else:
                assert self.every is not None
                step, family = (index + 1 - self.seats) * self.every, self._draw()
                self._sitting[seat] = family
            self.turns.append(Turn(step, seat, family))
        return self.turns[number]

    def _draw(self) -> int:
        """Draw one of those that are not resident, by weight."""
        free = [i for i in range(self.count) if i not in self._sitting]
        left = self._draws.random() * math.fsum(self.shares[i] for i in free)
        for i in free:
            left -= self.shares[i]
            if left < 0:
                return i
        return free[-1]

    def begun(self, step: int) -> int:
        """How many turns have begun when that meta-step runs."""
        number = 0
        while number < self.seats or self.every is not None:
            if self.turn(number).step > step:
                break
            number += 1
        return number

    def residents(self, step: int) -> list[Turn]:
        """The current turn of each seat that is taken."""
        last = {turn.seat: turn for turn in (self.turn(i) for i in range(self.begun(step)))}
        return [last[seat] for seat in sorted(last)]

    def drawn(self, step: int) -> list[tuple[Turn, float]]:
        """Whose gradients are estimated in that meta-step, and what they count."""
        present = self.residents(step)
        shares = [1.0 if self.seats < self.count else self.shares[turn.family] for turn in present]
        lots = self._random(f"step {step}")
        chosen = sorted(range(len(present)), key=lambda _: lots.random())[: self.per_step]
        each = len(present) / (self.per_step * math.fsum(shares))
        return [(present[i], shares[i] * each) for i in sorted(chosen)]


def run_keys(key: PRNGKeyArray) -> tuple[PRNGKeyArray, PRNGKeyArray, PRNGKeyArray]:
    """What the key of a run is split into: for its start, for its meta-steps, and for its validations."""
    start, run, validation = jr.split(key, 3)
    return start, run, validation


def rotation_turns(rotation: Rotation, families: Mixture, *, key: PRNGKeyArray, steps: int) -> list[Turn]:
    """Who is resident when, in a run of [`metaopt.meta_train`][] with this key.

    **Arguments:**

    - `rotation`: that of the run.
    - `families`: the mixture.
    - `key`: the key of the run.
    - `steps`: the number of meta-steps.

    **Returns:**

    Each [`metaopt.meta.Turn`][] that begins before the end, in order. It ends when the next one on that seat begins.
    """
    table = Timetable(rotation, families, run_keys(key)[1])
    return [table.turn(i) for i in range(table.begun(steps - 1))]
