"""A test of an estimator: what it returns, whether devices agree, and a known answer."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import AbstractAlgorithm, AbstractLossTask, AbstractTaskFamily, CheckError, Learner
from .._core.arrays._numbers import check_counts
from ..sharding import make_mesh
from ._horizons import ConstantHorizon
from ._objectives import MeanLoss
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


class _Parabola(AbstractLossTask[Array]):
    r"""$f(x) = x^2 / 2$ from $x = 1$."""

    def init(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.ones(())

    def loss(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * params**2

    def measure(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


class _Parabolas(AbstractTaskFamily):
    def sample(self, *, key: PRNGKeyArray) -> _Parabola:
        del key
        return _Parabola()


class _Descent(AbstractAlgorithm[tuple[()], Array, Array]):
    """Gradient descent with the logarithm of its rate as a weight."""

    log_rate: Float[Array, ""]

    def init(self, params: Array, *, key: PRNGKeyArray | None = None) -> tuple[()]:
        del params, key
        return ()

    def step(
        self, state: tuple[()], params: Array, grads: Array, *, value: Array | None = None
    ) -> tuple[tuple[()], Array]:
        del value
        return state, params - jnp.exp(self.log_rate) * grads


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
    check_counts(horizon=horizon)
    if (learner is None) != (problem is None):
        raise ValueError("`check_estimator` needs a `learner` and a `problem`, or neither of them.")
    key = jr.key(0) if key is None else key
    known = MetaProblem(_Parabolas(), MeanLoss(), ConstantHorizon(horizon), tasks=_TASKS)
    descent = Learner(_Descent(jnp.log(jnp.asarray(_RATE))))
    shapes_key, devices_key, known_key = jr.split(key, 3)
    given = (descent, known) if learner is None or problem is None else (learner, problem)
    _check_shapes(estimator, *given, key=shapes_key)
    devices = _compare_devices(estimator, *given, key=devices_key) if spreads(estimator) else {}
    time = np.arange(1, horizon + 1)
    truth = float(np.mean(-_RATE * time * (1 - _RATE) ** (2 * time - 1)))
    means, deviation = _estimates(estimator, descent, known, horizon, key=known_key)
    error = float(np.std(means, ddof=1) / np.sqrt(len(means)))
    bias = float(np.mean(means) - truth)
    return EstimatorReport(truth, bias, error, deviation, devices, spreads(estimator))


def _check_shapes(
    estimator: AbstractEstimator[Any], learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
) -> None:
    def run(what: str, *arguments: Any) -> Any:
        try:
            return eqx.filter_eval_shape(getattr(estimator, what), *arguments, key=key)
        except Exception as error:
            raise CheckError(f"`{type(estimator).__name__}.{what}` failed: {type(error).__name__}: {error}") from error

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
    (new, structure), (old, expected) = (jtu.tree_flatten_with_path(tree) for tree in (found, wanted))
    if structure != expected:
        raise CheckError(f"{what} has another structure than {other}: {structure} instead of {expected}.")
    for (path, a), (_, b) in zip(new, old, strict=True):
        if eqx.is_array(a) or isinstance(a, jax.ShapeDtypeStruct):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                name = jtu.keystr(path) or "It"
                raise CheckError(
                    f"{what} differs from {other}: {name} is {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}."
                )


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


def _estimates(
    estimator: AbstractEstimator[Any], learner: Learner, problem: MetaProblem, count: int, *, key: PRNGKeyArray
) -> tuple[np.ndarray, float]:
    """Means over whole episodes, independent of each other, and the deviation of one estimate."""

    def run(key: PRNGKeyArray) -> Array:
        start, key = jr.split(key)
        dynamic, static = eqx.partition(estimator.init(learner, problem, key=start), eqx.is_array)

        def body(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Array]:
            state, estimate = estimator.estimate(eqx.combine(dynamic, static), learner, problem, key=key)
            return eqx.filter(state, eqx.is_array), jtu.tree_leaves(estimate.grads)[0]

        # First episodes may be cut short, so that those of all tasks are at different clocks.
        return jax.lax.scan(body, dynamic, jr.split(key, 2 * count))[1][count:]

    found = np.asarray(eqx.filter_jit(jax.vmap(run))(jr.split(key, _REPLICATES)), np.float64)
    return found.mean(1), float(found.std())
