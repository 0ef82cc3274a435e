"""A test of an estimator: what it returns, whether devices agree, and a known answer."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from .._core import CheckError, Learner
from .._core._check import stage
from .._core._explain import difference
from .._core.arrays._numbers import check_counts
from ..sharding import make_mesh
from ._known_answer import estimates, known_problem, truth
from .base import AbstractEstimator, MetaGradient, MetaProblem
from .estimators._partition import partition
from .estimators._task_parallel import TaskParallel, spreads


_RATE, _TASKS, _REPLICATES = 0.05, 8, 32
# Between one device and several only the order of a sum differs.
_AGREEMENT = 1e-4


class EstimatorReport(eqx.Module):
    r"""What [`metaopt.meta.check_estimator`][] found.

    - `truth`: the derivative of the meta-objective of the known problem, in closed form.
    - `bias`: the mean of the estimates, minus `truth`.
    - `standard_error`: of that mean, from independent repetitions.
    - `deviation`: the standard deviation of one estimate.
    - `devices`: for each number of devices, the largest difference from one device, relative to the largest number in
        the gradient; empty if the estimator has other tasks on each.
    - `spreads`: whether the estimator promises the same numbers on any devices.
    """

    truth: float
    bias: float
    standard_error: float
    deviation: float
    devices: dict[int, float]
    spreads: bool

    @property
    def unbiased(self) -> bool:
        """Whether the bias is below four standard errors."""
        return abs(self.bias) < 4 * self.standard_error or abs(self.bias) < 1e-5 * abs(self.truth)


def check_estimator(
    estimator: AbstractEstimator[Any],
    *,
    learner: Learner | None = None,
    problem: MetaProblem | None = None,
    horizon: int = 20,
    key: PRNGKeyArray | None = None,
) -> EstimatorReport:
    r"""Test an estimator: what it returns, whether devices agree, and whether it is right where the answer is known.

    First it makes two estimates by shapes only, on your problem if one is given, and checks that the state keeps its
    structure, shapes and dtypes, and that the gradient has those of the trained leaves. Then it estimates on 1, 2, 4,
    ... of the devices that there are, and compares. At last it descends on $f(x) = x^2 / 2$ from $x = 1$ with the rate
    $a = e^\phi$, where $x_t = (1 - a)^t$, so that the mean loss over $H$ steps has the derivative

    $$-\frac{a}{H} \sum_{t=1}^H t \, (1 - a)^{2t - 1}$$

    and compares means of many estimates with it.

    **Arguments:**

    - `estimator`: the estimator.
    - `learner`, `problem`: for the check of shapes and devices; by default those of the known problem.
    - `horizon`: $H$ of the known problem, at least the truncation of the estimator.
    - `key`: the source of randomness; by default always the same.

    **Returns:**

    A [`metaopt.meta.EstimatorReport`][]. A bias is no error: truncated backpropagation has one.

    **Raises:**

    - [`metaopt.CheckError`][]: if what is returned has another structure, shape or dtype than it should, an estimate
        fails, or an estimator that promises the same on any devices does not keep it.
    - `ValueError`: if one of `learner` and `problem` is given without the other, or for a `horizon` below 1.
    """
    from ..l2o import LearnableSGD  # whoever imports `metaopt` does not need the learned rules

    check_counts(horizon=horizon)
    if (learner is None) != (problem is None):
        raise ValueError("`check_estimator` needs a `learner` and a `problem`, or neither of them.")
    key = jr.key(0) if key is None else key
    known = known_problem(horizon, _TASKS)
    descent = Learner(LearnableSGD(_RATE))
    shapes_key, devices_key, known_key = jr.split(key, 3)
    given = (descent, known) if learner is None or problem is None else (learner, problem)
    _check_shapes(estimator, *given, key=shapes_key)
    devices = _compare_devices(estimator, *given, key=devices_key) if spreads(estimator) else {}
    # First episodes may be cut short, so that those of all tasks are at different clocks.
    keys = jr.split(known_key, _REPLICATES)
    found = estimates(estimator, descent, known, skipped=horizon, count=horizon, keys=keys)
    means, wanted = found.mean(1), truth(_RATE, horizon)
    error = float(np.std(means, ddof=1) / np.sqrt(len(means)))
    bias = float(np.mean(means) - wanted)
    return EstimatorReport(wanted, bias, error, float(found.std()), devices, spreads(estimator))


def _check_shapes(
    estimator: AbstractEstimator[Any], learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
) -> None:
    def run(what: str, *arguments: Any) -> Any:
        return stage(f"{type(estimator).__name__}.{what}", ft.partial(getattr(estimator, what), key=key), *arguments)

    state = run("init", learner, problem)
    result = run("estimate", state, learner, problem)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], MetaGradient)):
        raise CheckError(
            f"`{type(estimator).__name__}.estimate` must return a state and a `MetaGradient`, but it returned a "
            f"`{type(result).__name__}`."
        )
    new, estimate = result
    _same("The state that `estimate` returns", new, "the one that `init` returns", state)
    trained = eqx.filter_eval_shape(lambda x: partition(x, problem)[0], learner)
    _same("The gradient", estimate.grads, "the trained leaves of the learner", trained)
    if estimate.value.shape or estimate.nonfinite.shape:
        raise CheckError(
            "`value` and `nonfinite` are the mean and the number over all tasks, of shape (), but they have shapes "
            f"{estimate.value.shape} and {estimate.nonfinite.shape}."
        )


def _same(what: str, found: PyTree, other: str, wanted: PyTree) -> None:
    different = difference(wanted, found)
    if different is None:
        return
    place, before, after = different
    if place is None:
        raise CheckError(f"{what} has another structure than {other}: {after} instead of {before}.")
    raise CheckError(f"{what} differs from {other}: {place or 'It'} is {after}, not {before}.")


def _compare_devices(
    estimator: AbstractEstimator[Any], learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
) -> dict[int, float]:
    start, *keys = jr.split(key, 3)

    def run(used: AbstractEstimator[Any]) -> list[np.ndarray]:
        state, found = used.init(learner, problem, key=start), []
        for each in keys:
            state, estimate = eqx.filter_jit(used.estimate)(state, learner, problem, key=each)
            found.append([np.asarray(x, np.float64) for x in jtu.tree_leaves(eqx.filter(estimate.grads, eqx.is_array))])
        return [x for leaves in found for x in leaves]

    alone, differences = run(estimator), dict[int, float]()
    size = max((float(np.max(np.abs(x), initial=0.0)) for x in alone), default=0.0)
    number = 1
    while number <= jax.device_count() and problem.tasks % number == 0:
        there = run(TaskParallel(estimator, make_mesh(tasks=number)))
        largest = max(float(np.max(np.abs(x - y), initial=0.0)) for x, y in zip(there, alone, strict=True))
        differences[number] = largest / (size or 1.0)
        if not differences[number] <= _AGREEMENT:
            raise CheckError(
                f"`{type(estimator).__name__}` is an `AbstractSpreadEstimator`, but its gradient on {number} devices "
                f"differs from that on one by {differences[number]:.2g} of its size. Give tasks the keys "
                "`task_keys(key, task_indices(problem))`, and add up with `average` or `total`, all in "
                "`metaopt.meta.estimators`; or derive it from `AbstractEstimator`."
            )
        number *= 2
    return differences
