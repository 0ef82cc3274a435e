"""Meta-steps on a mixture whose families have programs of their own, which are compiled in the background."""

import concurrent.futures
import dataclasses
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, Learner
from ..._core._compiling import quick_options
from ...sharding._everywhere import replicate
from ..base import AbstractEstimator, MetaGradient, MetaProblem
from ..estimators._mixed import Mixed, mixture
from ..estimators._task_parallel import TaskParallel
from ._cache import fit_cache
from ._metrics import family_kinds, seen
from ._rotation import Rotation, Timetable


class Seat(eqx.Module):
    """The running episodes of one family, which are zeros until they have begun."""

    state: PyTree
    begun: Bool[Array, ""]


class Common(eqx.Module):
    """What a meta-step changes beside the episodes."""

    step: Int[Array, ""]
    learner: Learner
    outer: PyTree
    diverged: Int[Array, ""]


class _Kept(NamedTuple):
    """What an estimate reads, and does not give up."""

    learner: Learner
    problem: MetaProblem
    estimator: AbstractEstimator[Any]
    key: PRNGKeyArray
    step: Int[Array, ""]
    number: Int[Array, ""]


def _estimate(kept: _Kept, seat: Seat) -> tuple[Seat, MetaGradient]:
    """Go on with the episodes of a seat, or begin them. Its arrays are given up."""
    learner, problem, estimator, key, step, number = kept
    begin_key, run_key = jr.split(jr.fold_in(jr.fold_in(key, step), number))
    known, rest = eqx.partition(seat.state, eqx.is_array)

    # A branch rather than a program of its own, which would be compiled, too.
    def begin() -> PyTree:
        return eqx.filter(estimator.init(learner, problem, key=begin_key), eqx.is_array)

    state = eqx.combine(jax.lax.cond(seat.begun, lambda: known, begin), rest)
    state, estimate = estimator.estimate(state, learner, problem, key=run_key)
    if isinstance(estimator, TaskParallel):
        state = eqx.filter_shard(state, _spread(estimator))
        estimate = eqx.filter_shard(estimate, NamedSharding(estimator.mesh, PartitionSpec()))
    return Seat(state, jnp.asarray(True)), estimate


def _spread(estimator: TaskParallel[Any]) -> NamedSharding:
    return NamedSharding(estimator.mesh, PartitionSpec("tasks"))


def _finish(
    common: Common,
    estimates: tuple[MetaGradient, ...],
    shares: tuple[Float[Array, ""], ...],
    mixed: Mixed[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    told: bool,
) -> tuple[Common, Float[Array, " columns"]]:
    """Add up the estimates and let the outer algorithm step."""
    estimate = mixed.add_up(estimates, shares)
    outer_state, learner = outer.step(common.outer, common.learner, estimate.grads, value=estimate.value)
    new = Common(common.step + 1, learner, outer_state, common.diverged + estimate.nonfinite)
    if told:
        return new, seen(estimate, common.learner, learner, outer_state.skipped, new.diverged)
    return new, estimate.value[None]


class Apart:
    """The programs of a mixture whose families take turns, and what is needed to run them."""

    def __init__(
        self,
        rotation: Rotation,
        estimator: AbstractEstimator[Any],
        outer: AbstractAlgorithm[Any, Any, Any],
        problem: MetaProblem,
        learner: Learner,
        key: PRNGKeyArray,
        *,
        steps: int,
        told: bool,
    ):
        self.mixed, self.estimator = apart(estimator)
        self.families = mixture(problem)
        self.table = Timetable(rotation, self.families, key)
        self.outer, self.problem, self.learner, self.key = outer, problem, learner, key
        self.steps, self.told = steps, told
        self.columns, self.names = family_kinds(self.families)
        self.mesh = self.estimator.mesh if isinstance(self.estimator, TaskParallel) else None
        self.key = self._everywhere(key)
        # The third level takes a quarter more to compile, and nothing was faster by it. The first one, or loops made
        # the old way, save another quarter, and cost a fifth of the speed.
        jit: Any = eqx.filter_jit
        self.program = jit(_estimate, donate="all-except-first", compiler_options=quick_options(2))
        self.finish = eqx.filter_jit(_finish)
        self.problems: dict[int, MetaProblem] = {}
        self.compiled: dict[Any, concurrent.futures.Future[Any]] = {}
        self.pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="metaopt-compile")
        self.seconds = 0.0
        """How long was waited for programs."""
        self.programs = 0
        """How many were compiled."""

    def _everywhere(self, tree: Any) -> Any:
        return tree if self.mesh is None else replicate(tree, self.mesh)

    def seats(self, step: int) -> tuple[Seat | None, ...]:
        """Seats after so many meta-steps, with zeros in place of episodes; `None` where nobody sits."""
        sitting = {turn.seat: turn.family for turn in self.table.residents(step - 1)} if step else {}
        return tuple(self._empty(sitting[i]) if i in sitting else None for i in range(self.table.seats))

    def _problem(self, family: int) -> MetaProblem:
        if family not in self.problems:
            problem = dataclasses.replace(self.problem, family=self.families.families[family])
            self.problems[family] = self._everywhere(fit_cache(problem, self.learner))
        return self.problems[family]

    def _empty(self, family: int) -> Seat:
        shapes = eqx.filter_eval_shape(self.estimator.init, self.learner, self._problem(family), key=self.key)

        def zeros(leaf: Any) -> Any:
            if not isinstance(leaf, jax.ShapeDtypeStruct):
                return leaf
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                data = jr.key_data(self.key)
                return jr.wrap_key_data(jnp.zeros(leaf.shape + data.shape, data.dtype), impl=jr.key_impl(self.key))
            return jnp.zeros(leaf.shape, leaf.dtype)

        state = jtu.tree_map(zeros, shapes)
        if isinstance(self.estimator, TaskParallel):
            state = eqx.filter_shard(state, _spread(self.estimator))
        return Seat(state, self._everywhere(jnp.asarray(False)))

    def _kept(self, learner: Learner, family: int, step: int, number: int) -> _Kept:
        clock = self._everywhere((jnp.asarray(step, jnp.int32), jnp.asarray(number, jnp.int32)))
        return _Kept(learner, self._problem(family), self.estimator, self.key, *clock)

    def _order(self, family: int) -> concurrent.futures.Future[Any]:
        """Have the program of a family compiled, if it is not yet, and nothing that it could share."""
        signature = _signature(self._problem(family))
        if signature not in self.compiled:
            # Traced here, where the settings of this thread hold; compiling is most of the work, and takes no lock.
            lowered = self.program.lower(self._kept(self.learner, family, 0, 0), self._empty(family))
            self.compiled[signature] = self.pool.submit(lowered.compile)
            self.programs += 1
        return self.compiled[signature]

    def _look_ahead(self, step: int) -> None:
        """Order one program of those that are needed next, and forget those of long ago."""
        reach = self.table.every or self.steps
        coming = [self.table.turn(i) for i in range(self.table.begun(min(step + reach, self.steps - 1)))]
        wanted = {_signature(self._problem(turn.family)): turn for turn in coming[-self.table.seats - 1 :]}
        for signature in [s for s in self.compiled if s not in wanted and self.compiled[s].done()]:
            if len(self.compiled) > 2 * self.table.seats + 2:
                del self.compiled[signature]
        for signature, turn in wanted.items():
            if signature not in self.compiled:
                self._order(turn.family)
                return

    def advance(
        self, common: Common, seats: tuple[Seat | None, ...], count: int
    ) -> tuple[Common, tuple[Seat | None, ...], Float[np.ndarray, "steps columns"]]:
        """Run meta-steps. Rows are as those of [`seen`][], with a column for each kind of family if it is told."""
        now, kept, rows, losses = common, list(seats), [], []
        first = int(common.step)
        for step in range(first, first + count):
            before = {turn.seat: turn for turn in self.table.residents(step - 1)} if step else {}
            for turn in self.table.residents(step):
                if before.get(turn.seat) != turn:
                    kept[turn.seat] = self._empty(turn.family)
            drawn = self.table.drawn(step)
            for turn, _ in drawn:
                self._order(turn.family)
            estimates = []
            for turn, _ in drawn:
                program, seat = self._wait(self._order(turn.family)), kept[turn.seat]
                assert seat is not None
                kept[turn.seat], estimate = program(self._kept(now.learner, turn.family, step, turn.seat), seat)
                if jax.default_backend() == "cpu":
                    # Two programs with matrix decompositions, side by side, can wait for each other's threads forever.
                    jax.block_until_ready(estimate)
                estimates.append(estimate)
            shares = tuple(jnp.asarray(share, jnp.result_type(float)) for _, share in drawn)
            begun = time.perf_counter()
            now, row = self.finish(now, tuple(estimates), self._everywhere(shares), self.mixed, self.outer, self.told)
            if step == first and not rows:
                self.seconds += time.perf_counter() - begun
            rows.append(row)
            losses.append([(turn.family, estimate.value) for (turn, _), estimate in zip(drawn, estimates, strict=True)])
            self._look_ahead(step + 1)
        numbers = np.stack([np.asarray(row) for row in rows])
        return now, tuple(kept), np.concatenate([numbers, self._of_kinds(losses)], axis=1) if self.told else numbers

    def _wait(self, program: concurrent.futures.Future[Any]) -> Any:
        begun = time.perf_counter()
        try:
            return program.result()
        finally:
            self.seconds += time.perf_counter() - begun

    def _of_kinds(self, losses: list[list[tuple[int, Float[Array, ""]]]]) -> Float[np.ndarray, "steps kinds"]:
        """The mean loss of each kind in each meta-step; NaN where it was not looked at."""
        found = np.full((len(losses), len(self.names)), np.nan)
        for row, some in zip(found, losses, strict=True):
            of: dict[int, list[float]] = {}
            for family, value in some:
                of.setdefault(self.columns[family], []).append(float(value))
            for column, values in of.items():
                row[column] = np.mean(values)
        return found

    def close(self) -> None:
        """Compile nothing that is not begun."""
        self.pool.shutdown(wait=True, cancel_futures=True)


def apart(estimator: AbstractEstimator[Any]) -> tuple[Mixed[Any], AbstractEstimator[Any]]:
    """How families are added up, and the estimator of each.

    **Raises:**

    - `ValueError`: if the estimator is not one of a mixture.
    """
    if isinstance(estimator, Mixed):
        return estimator, estimator.inner
    if isinstance(estimator, TaskParallel) and isinstance(estimator.inner, Mixed):
        return estimator.inner, dataclasses.replace(estimator, inner=estimator.inner.inner)
    raise ValueError(
        f"`rotation` is for several families, and needs `metaopt.meta.Mixed(estimator)` rather than "
        f"`{type(estimator).__name__}`."
    )


def _signature(problem: MetaProblem) -> Any:
    """What a program depends on: equal for problems that differ in numbers only."""
    leaves, structure = jtu.tree_flatten(problem)
    return structure, tuple((x.shape, x.dtype, x.weak_type) if isinstance(x, jax.Array) else x for x in leaves)
