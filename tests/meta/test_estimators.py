import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.meta import (
    ES,
    NRES,
    PES,
    AbstractObjective,
    BestLoss,
    ConstantHorizon,
    ESSingle,
    FinalLoss,
    LogUniformHorizon,
    MeanLoss,
    MetaProblem,
    TruncatedUnroll,
    Unrolled,
    only,
)
from metaopt.meta.estimators._devices import task_keys
from metaopt.meta.estimators._episode import plan
from tests._cases import slow

from .problems import Descent, Parabolas, descent


HORIZON, RATE = 20, 0.05
UNBIASED = [ES(0.01)] + [kind(0.01, k) for kind in (PES, NRES, ESSingle) for k in (1, 5, 20)]


def problem(objective: AbstractObjective = MeanLoss(), tasks=1, **kwargs):
    return MetaProblem(Parabolas(), objective, ConstantHorizon(HORIZON), tasks=tasks, **kwargs)


def truth(name):
    """Closed form in NumPy: x_t = (1 - a)^t, differentiated in log a."""
    t = np.arange(1, HORIZON + 1)
    slopes = 0.5 * 2 * t * (1 - RATE) ** (2 * t - 1) * -RATE
    return slopes.mean() if name == "MeanLoss" else slopes[-1]


def estimates(estimator, problem, count, burn=HORIZON, seeds=1):
    """`count` meta-gradients after the first episodes, whose ends are cut; with a leading axis if `seeds` > 1."""
    learner = descent(RATE)

    def run(key):
        start, key = jr.split(key)
        state = estimator.init(learner, problem, key=start)
        dynamic, static = eqx.partition(state, eqx.is_array)

        def body(dynamic, key):
            state, estimate = estimator.estimate(eqx.combine(dynamic, static), learner, problem, key=key)
            return eqx.filter(state, eqx.is_array), (estimate.grads.algorithm.log_rate, estimate.nonfinite)

        return jax.lax.scan(body, dynamic, jr.split(key, burn + count))[1]

    grads, nonfinite = eqx.filter_jit(eqx.filter_vmap(run))(jr.split(jr.key(0), seeds))
    assert not np.any(nonfinite) and np.all(np.isfinite(grads))
    grads = np.asarray(grads[:, burn:], np.float64)
    return grads if seeds > 1 else grads[0]


@pytest.mark.parametrize("objective", [MeanLoss(), FinalLoss(), BestLoss()], ids=lambda o: type(o).__name__)
def test_unrolled_is_exact(objective):
    (grad,) = estimates(Unrolled(), problem(objective, tasks=1), 1, burn=0)
    np.testing.assert_allclose(grad, truth(type(objective).__name__), rtol=1e-5)


CASES = [
    pytest.param(estimator, MeanLoss(), marks=[pytest.mark.slow] * (getattr(estimator, "truncation", 5) != 5))
    for estimator in UNBIASED
]
CASES += [pytest.param(kind(0.01, 5), FinalLoss(), marks=pytest.mark.slow) for kind in (PES, NRES, ESSingle)]


@pytest.mark.parametrize(
    ("estimator", "objective"), CASES, ids=lambda x: str(x) if "std" in str(x) else type(x).__name__
)
def test_unbiased_at_every_truncation(estimator, objective):
    # Windows of an episode share noise, so the error comes from independent replicates of whole episodes.
    replicates = estimates(estimator, problem(objective, tasks=60), HORIZON, seeds=16).mean(1)
    error = replicates.std(ddof=1) / np.sqrt(replicates.size)
    assert error < 0.3 * abs(truth(type(objective).__name__))
    assert abs(replicates.mean() - truth(type(objective).__name__)) < 4.5 * error


def test_truncated_unroll_is_exact_on_full_windows_and_biased_on_short_ones():
    (full,) = estimates(TruncatedUnroll(HORIZON), problem(tasks=2), 1, burn=0)
    np.testing.assert_allclose(full, truth("MeanLoss"), rtol=1e-5)
    short = estimates(TruncatedUnroll(1), problem(tasks=20), HORIZON)
    assert abs(short.mean()) < 0.5 * abs(truth("MeanLoss"))


def test_first_order_drops_the_inner_hessian():
    (grad,) = estimates(Unrolled(), problem(FinalLoss(), tasks=1, second_order=False), 1, burn=0)
    # dx_{t+1} = dx_t - a x_t dlog(a): the derivative through the gradient is left out.
    x, dx = 1.0, 0.0
    for _ in range(HORIZON):
        x, dx = x * (1 - RATE), dx - RATE * x
    np.testing.assert_allclose(grad, x * dx, rtol=1e-5)


@pytest.mark.parametrize("estimator", [PES(0.01, 5), *slow(NRES(0.01, 5), ES(0.01)), TruncatedUnroll(5)], ids=str)
def test_random_horizons_are_masked_exactly(estimator):
    """Episodes that end inside a window count only their own steps, and stay finite."""
    random = MetaProblem(Parabolas(), MeanLoss(), LogUniformHorizon(3, HORIZON), tasks=50)
    grads = estimates(estimator, random, 20)
    assert np.all(np.isfinite(grads)) and grads.mean() < 0


class Measured(metaopt.AbstractTaskFamily):
    """Parabolas whose measure is another multiple of the loss."""

    factor: float = eqx.field(static=True)

    def sample(self, *, key):
        return MeasuredTask(Parabolas().sample(key=key), self.factor)


class MeasuredTask(metaopt.AbstractLossTask):
    task: metaopt.AbstractLossTask
    factor: float = eqx.field(static=True)

    def init(self, *, key):
        return self.task.init(key=key)

    def loss(self, params, *, key):
        return self.task.loss(params, key=key)

    def measure(self, params, *, key):
        return 1.0 + self.factor * self.task.loss(params, key=key)


@pytest.mark.parametrize(
    ("estimator", "horizon"),
    [
        (PES(0.01, 5), ConstantHorizon(12)),
        (Unrolled(), LogUniformHorizon(5, 12)),
        pytest.param(TruncatedUnroll(5), ConstantHorizon(12), marks=pytest.mark.slow),
        pytest.param(TruncatedUnroll(5), LogUniformHorizon(5, 12), marks=pytest.mark.slow),
        pytest.param(PES(0.01, 5), LogUniformHorizon(5, 12), marks=pytest.mark.slow),
    ],
)
def test_queries_are_asked_at_every_horizon(estimator, horizon):
    constant = MetaProblem(Measured(0.0), FinalLoss(queries=True), horizon, tasks=3)
    assert np.all(estimates(estimator, constant, 12, burn=0) == 0.0)


def test_queries_are_of_the_parameters_at_the_horizon():
    known = MetaProblem(Measured(10.0), FinalLoss(queries=True), LogUniformHorizon(5, 12), tasks=64)
    learner, key = descent(RATE), jr.key(0)
    found = Unrolled().estimate(Unrolled().init(learner, known, key=key), learner, known, key=key)[1]
    horizons = np.asarray([plan(known, key=jr.split(k, 3)[0]).horizon for k in task_keys(key, jnp.arange(64))])
    assert len(set(horizons)) > 4
    wanted = np.mean(10.0 * horizons * (1 - RATE) ** (2 * horizons - 1) * -RATE)
    np.testing.assert_allclose(found.grads.algorithm.log_rate, wanted, rtol=1e-5)


class Spoiled(metaopt.AbstractTaskFamily):
    """Parabolas, of which one in three has a loss without a number, or without a gradient."""

    what: str = eqx.field(static=True)

    def sample(self, *, key):
        return SpoiledTask(jr.uniform(key) < 0.3, self.what)


class SpoiledTask(metaopt.AbstractLossTask):
    bad: jax.Array
    what: str = eqx.field(static=True)

    def init(self, *, key):
        return jnp.asarray(1.0)

    def loss(self, params, *, key):
        # The slope of the square root at zero is infinite, and times zero it is no number.
        added = jnp.sqrt(jnp.where(self.bad, 0.0 * params, 1.0)) if self.what == "slope" else jnp.inf
        return 0.5 * params**2 + jnp.where(self.bad, added, 0.0)

    def measure(self, params, *, key):
        return self.loss(params, key=key)


@pytest.mark.parametrize("what", ["value", "slope"])
@pytest.mark.parametrize("estimator", [Unrolled(), TruncatedUnroll(HORIZON)], ids=lambda e: type(e).__name__)
def test_a_task_without_a_gradient_does_not_spoil_the_others(estimator, what):
    learner = descent(RATE)
    known = MetaProblem(Spoiled(what), MeanLoss(), ConstantHorizon(HORIZON), tasks=12)
    state = estimator.init(learner, known, key=jr.key(0))
    found = eqx.filter_jit(estimator.estimate)(state, learner, known, key=jr.key(1))[1]
    assert 0 < found.nonfinite < 12
    if what == "value":
        np.testing.assert_allclose(found.grads.algorithm.log_rate, truth("MeanLoss"), rtol=1e-5)
    assert np.isfinite(found.grads.algorithm.log_rate)


def test_derivatives_through_adam_are_finite_where_a_gradient_is_zero():
    params = jnp.asarray([1.0, 0.0])

    def reached(start, **options):
        rule = metaopt.from_optax(optax.adam, learning_rate=0.1, **options)
        state, x = rule.init(start), start
        for _ in range(3):
            state, x = rule.step(state, x, jax.grad(lambda x: jnp.sum(x**2))(x))
        return jnp.sum(x)

    assert np.all(np.isfinite(jax.grad(reached)(params)))
    assert not np.all(np.isfinite(jax.grad(lambda x: reached(x, eps_root=0.0))(params)))
    steps = [metaopt.from_optax(optax.adam, learning_rate=0.1, eps_root=root) for root in (0.0, 1e-30)]
    values = [metaopt.minimize(lambda x: jnp.sum(x**2), rule, params, steps=9).params for rule in steps]
    np.testing.assert_array_equal(values[0], values[1])


def test_update_penalty_and_weight_penalty():
    plain = estimates(Unrolled(), problem(tasks=1), 1, burn=0)
    decayed = estimates(Unrolled(), problem(tasks=1, weight_penalty=0.1), 1, burn=0)
    np.testing.assert_allclose(decayed - plain, 0.2 * np.log(RATE), rtol=1e-4)
    damped = estimates(Unrolled(), problem(tasks=1, update_penalty=0.5), 1, burn=0)
    t, a = np.arange(HORIZON), RATE

    def sizes(a):
        return 0.5 * np.mean((a * (1 - a) ** t) ** 2)

    slope = (sizes(a * np.exp(1e-5)) - sizes(a * np.exp(-1e-5))) / 2e-5
    np.testing.assert_allclose(damped - plain, slope, rtol=1e-2)


def test_a_diverging_task_is_counted_left_out_and_restarted():
    wild = MetaProblem(Parabolas(), MeanLoss(), ConstantHorizon(200), tasks=4)
    learner, estimator = descent(100.0), PES(0.01, 50)
    state = estimator.init(learner, wild, key=jr.key(0))
    counts = []
    for i in range(4):
        state, estimate = eqx.filter_jit(estimator.estimate)(state, learner, wild, key=jr.key(i))
        counts.append(int(estimate.nonfinite))
        assert np.isfinite(estimate.grads.algorithm.log_rate)
    assert max(counts) == 4 and np.all(
        np.isfinite(state.progress.inner.params) | (state.clock >= state.deadline)[:, None]
    )


@pytest.mark.slow
def test_the_estimate_does_not_depend_on_the_batch_around_a_task():
    """A task's keys depend on its index only: the same two tasks alone or among others."""

    def perturbations(tasks):
        estimator = PES(0.01, 5)
        state = estimator.init(descent(RATE), problem(tasks=tasks), key=jr.key(0))
        state, _ = estimator.estimate(state, descent(RATE), problem(tasks=tasks), key=jr.key(1))
        return np.asarray(state.noise.algorithm.log_rate[:2])

    np.testing.assert_array_equal(perturbations(2), perturbations(5))


def test_only_trains_what_is_named():
    learner = metaopt.Learner(Descent(jnp.asarray(-3.0)), initial=jnp.asarray(2.0))
    initial = problem(tasks=1, trainable=only(lambda learner: learner.initial))
    _, estimate = Unrolled().estimate(None, learner, initial, key=jr.key(0))
    assert estimate.grads.algorithm.log_rate is None
    rate = np.exp(-3.0)
    t = np.arange(1, HORIZON + 1)
    np.testing.assert_allclose(estimate.grads.initial, np.mean(2.0 * (1 - rate) ** (2 * t)), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PES(0.01, 21).init(descent(RATE), problem(), key=jr.key(0)), "longer than the longest horizon"),
        (
            lambda: TruncatedUnroll(0).init(descent(RATE), problem(), key=jr.key(0)),
            "`truncation` must be a whole number",
        ),
        (lambda: PES(0.0, 5), "`std` must be positive"),
        (lambda: problem(tasks=0), "`tasks` must be at least 1"),
        (lambda: problem(weight_penalty=-1.0), "`weight_penalty` must be at least 0"),
        (
            lambda: Unrolled().init(metaopt.Learner(metaopt.from_optax(optax.sgd(0.1))), problem(), key=jr.key(0)),
            "nothing to train",
        ),
    ],
)
def test_bad_input_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_unrolled_with_a_norm_bounds_each_task_and_leaves_diverged_ones_out():
    free = estimates(Unrolled(), problem(tasks=3), 1, burn=0)
    np.testing.assert_allclose(estimates(Unrolled(max_norm=10.0), problem(tasks=3), 1, burn=0), free, rtol=1e-5)
    np.testing.assert_allclose(estimates(Unrolled(max_norm=0.1), problem(tasks=3), 1, burn=0), -0.1, rtol=1e-5)
    wild = MetaProblem(Parabolas(), MeanLoss(), ConstantHorizon(200), tasks=4)
    _, estimate = eqx.filter_jit(Unrolled(max_norm=1.0).estimate)(None, descent(100.0), wild, key=jr.key(0))
    assert int(estimate.nonfinite) == 4 and float(estimate.grads.algorithm.log_rate) == 0.0
    with pytest.raises(ValueError, match="`max_norm` must be positive"):
        Unrolled(max_norm=0.0)


@pytest.mark.parametrize(
    "estimator",
    [
        Unrolled(),
        *slow(PES(0.01, 5), Unrolled(max_norm=1.0), TruncatedUnroll(5), ES(0.01)),
    ],
)
def test_tasks_in_batches_give_the_same(estimator):
    """Single tasks, and batches that do not divide their number."""
    learner = descent(RATE)
    found = []
    for batch_size in (None, 1, 3):
        batched = problem(tasks=4, batch_size=batch_size)
        state, seen = eqx.filter_jit(estimator.init)(learner, batched, key=jr.key(0)), []
        for i in range(2):
            state, estimate = eqx.filter_jit(estimator.estimate)(state, learner, batched, key=jr.key(i))
            seen.append(estimate)
        found.append(jax.tree_util.tree_leaves(eqx.filter((state, seen), eqx.is_inexact_array)))
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5)


def test_a_batch_is_not_empty():
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, or `None` for all, but 0"):
        problem(batch_size=0)
