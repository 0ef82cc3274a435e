import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt._core.files._lock import locked_folder
from metaopt.fewshot import EWC, ContinualResult, Reservoir, continual, importance
from metaopt.meta import ConstantHorizon, FinalLoss, MetaProblem, Unrolled, only


class Point(metaopt.AbstractLossTask):
    """Get to a place; each coordinate has a weight."""

    place: jax.Array
    weights: jax.Array

    def init(self, *, key):
        return jnp.zeros_like(self.place)

    def loss(self, params, *, key):
        return 0.5 * jnp.sum(self.weights * (params - self.place) ** 2)

    def measure(self, params, *, key):
        return self.loss(params, key=key)


class Points(metaopt.AbstractTaskFamily):
    """Places near a center."""

    center: jax.Array
    weights: jax.Array

    def sample(self, *, key):
        return Point(self.center + 0.1 * jr.normal(key, self.center.shape), self.weights)


def _family(center, weights=(1.0, 1.0)):
    return Points(jnp.asarray(center, jnp.float32), jnp.asarray(weights, jnp.float32))


SGD = metaopt.from_optax(optax.sgd, learning_rate=0.1)
OUTER = metaopt.from_optax(optax.sgd, learning_rate=0.3)


def _problem(family):
    trainable = only(lambda learner: learner.initial)
    return MetaProblem(family, FinalLoss(), ConstantHorizon(1), tasks=4, trainable=trainable)


FIRST, SECOND = _family([1.0, 0.0], [1.0, 0.1]), _family([0.0, 1.0], [0.1, 1.0])


def _run(families=(FIRST, SECOND), **options):
    learner = metaopt.Learner(SGD, jnp.zeros(2))
    options = {"steps": 40, "key": jr.key(0), "progress": False, "test_tasks": 20} | options
    return continual(learner, families, _problem(families[0]), estimator=Unrolled(), outer=OUTER, **options)


def test_a_reservoir_keeps_all_with_the_same_chance():
    def kept(key):
        def body(reservoir, i):
            task = Point(i[None].astype(jnp.float32), jnp.ones(1))
            return reservoir.add(task, key=jr.fold_in(key, i)), None

        empty = Reservoir(Point(jnp.zeros(1), jnp.ones(1)), 4)
        return jax.lax.scan(body, empty, jnp.arange(12))[0].tasks.place[:, 0]

    places = np.asarray(jax.jit(jax.vmap(kept))(jr.split(jr.key(0), 3000)), int)
    assert all(len(set(row)) == 4 for row in places[:50])
    shares = np.bincount(places.ravel(), minlength=12) / 3000
    # A third each, with a standard error of 0.009.
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


def test_a_reservoir_gives_back_what_it_holds(getkey):
    reservoir = Reservoir(Point(jnp.zeros(1), jnp.ones(1)), 5)
    with pytest.raises(Exception, match="The reservoir is empty"):
        reservoir.sample(key=getkey())
    for i in range(3):
        reservoir = reservoir.add(Point(jnp.full(1, float(i)), jnp.full(1, 2.0)), key=getkey())
    drawn = jax.vmap(lambda key: reservoir.sample(key=key))(jr.split(getkey(), 100))
    assert isinstance(drawn, Point)
    assert set(drawn.place[:, 0].tolist()) == {0.0, 1.0, 2.0} and jnp.all(drawn.weights == 2)
    with pytest.raises(ValueError, match="`capacity` must be at least 1"):
        Reservoir(Point(jnp.zeros(1), jnp.ones(1)), 0)


def test_ewc_is_gradient_descent_on_the_penalized_loss():
    start, weights = jnp.asarray([1.0, -1.0]), jnp.asarray([0.5, 4.0])
    algorithm = EWC(metaopt.from_optax(optax.sgd, learning_rate=0.1), 0.3, weights)
    state, params, wanted = algorithm.init(start), start, start
    for _ in range(3):
        state, params = algorithm.step(state, params, jnp.sin(params))
        wanted = wanted - 0.1 * jax.grad(lambda x: -jnp.sum(jnp.cos(x)) + 0.15 * jnp.sum(weights * (x - start) ** 2))(
            wanted
        )
    np.testing.assert_allclose(params, wanted, rtol=1e-5)


def test_importance_is_the_mean_square_of_meta_gradients():
    learner, problem = metaopt.Learner(SGD, jnp.asarray([1.0, 0.0])), _problem(FIRST)
    found = importance(learner, problem, estimator=Unrolled(), samples=200, key=jr.key(0))
    assert found.algorithm.hyperparameters["learning_rate"] is None
    # At the center, the gradient of coordinate i is normal around 0, with a deviation in proportion to its weight
    # times (1 - 0.1 weight)^2, the slope through one step of adaptation.
    slopes = np.asarray([1.0 * 0.9**2, 0.1 * 0.99**2]) ** 2
    np.testing.assert_allclose(found.initial, slopes / slopes.mean(), rtol=0.4)
    np.testing.assert_allclose(jnp.mean(found.initial), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="`samples` must be at least 1"):
        importance(learner, problem, estimator=Unrolled(), samples=0, key=jr.key(0))


@pytest.mark.slow
def test_replay_and_anchors_forget_less():
    naive = _run()
    assert naive.backward_transfer < -1 and naive.forgetting[0] > 1 and naive.forgetting[1] == 0
    replayed, anchored, uniform = _run(memory=16), _run(anchor=0.5, importance_samples=16), _run(anchor=0.5)
    for better in (replayed, anchored, uniform):
        assert better.forgetting[0] < naive.forgetting[0] - 1 and better.losses[-1].mean() < naive.losses[-1].mean()
    # The optimum of both losses: each coordinate by its weights after one step of adaptation.
    weights = np.asarray([1.0 * 0.9**2, 0.1 * 0.99**2])
    np.testing.assert_allclose(replayed.learner.initial, [weights[0] / weights.sum()] * 2, atol=0.08)
    # Weights leave free what the first family does not care for.
    assert anchored.learner.initial[1] > uniform.learner.initial[1] + 0.05


@pytest.mark.slow
def test_families_of_different_shapes_have_reservoirs_of_their_own():
    class Either(metaopt.AbstractTaskFamily):
        """Places with one or two weights that count."""

        inner: Points
        count: int = eqx.field(static=True)

        def sample(self, *, key):
            task = self.inner.sample(key=key)
            return Point(task.place, task.weights[: self.count])

    result = _run((Either(FIRST, 1), Either(SECOND, 2), Either(FIRST, 2)), memory=8, steps=2)
    assert result.losses.shape == (4, 3) and np.all(np.isfinite(result.losses))


def test_the_first_family_is_plain_meta_training():
    result = _run((FIRST,), memory=4, anchor=1.0)
    plain = metaopt.meta_train(
        metaopt.Learner(SGD, jnp.zeros(2)),
        _problem(FIRST),
        estimator=Unrolled(),
        outer=OUTER,
        steps=40,
        key=jr.fold_in(jr.split(jr.key(0), 4)[0], 0),
        progress=False,
    )
    np.testing.assert_array_equal(result.learner.initial, plain.learner.initial)
    assert result.backward_transfer == result.forward_transfer == 0


@pytest.mark.slow
def test_a_resumed_stream_has_the_same_bits(tmp_path):
    options = {"memory": 8, "steps": 3, "checkpoint": tmp_path / "stream"}
    whole = _run(**options)
    (tmp_path / "stream" / "family-2.metaopt").unlink()
    resumed = _run(**options, resume=True)
    np.testing.assert_array_equal(resumed.learner.initial, whole.learner.initial)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    # The first family was not trained on again.
    assert resumed.stages[0].compile_seconds == 0 < resumed.stages[1].compile_seconds


def test_one_stream_at_a_time_writes_to_a_folder(tmp_path):
    with (
        locked_folder(tmp_path, ""),
        pytest.raises(BlockingIOError, match=r"in use by process \d+ on .*`checkpoint`"),
    ):
        _run(steps=3, checkpoint=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_transfers_are_those_of_the_definitions():
    losses = np.exp(-np.asarray([[0.0, 0.5, 1.0], [3.0, 0.7, 1.0], [2.0, 4.0, 1.5], [2.5, 3.0, 5.0]]))
    learner = metaopt.Learner(SGD)
    result = ContinualResult(learner, losses, [], ("a", "b", "c"))
    assert np.isclose(result.backward_transfer, ((2.5 - 3.0) + (3.0 - 4.0)) / 2)
    assert np.isclose(result.forward_transfer, ((0.7 - 0.5) + (1.5 - 1.0)) / 2)
    np.testing.assert_allclose(result.forgetting, [0.5, 1.0, 0.0], atol=1e-12)
    assert np.isclose(result.final, np.exp(-3.5))
    lines = result.table().splitlines()
    assert len(lines) == 6 and lines[1].startswith("before") and "backward transfer -0.750" in lines[-1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"families": ()}, "`families` is empty"),
        ({"names": ["a"]}, "2 families need as many `names`"),
        ({"memory": -1}, "`memory` must not be negative"),
        ({"anchor": -1.0}, "`anchor` must not be negative"),
        ({"share": 1.0, "memory": 4}, "`share` must be between 0 and 1"),
        ({"resume": True}, "`resume=True` needs the folder"),
    ],
)
def test_errors(options, text):
    families = options.pop("families", (FIRST, SECOND))
    learner = metaopt.Learner(SGD, jnp.zeros(2))
    more = {"steps": 1, "key": jr.key(0)} | options
    with pytest.raises(ValueError, match=text):
        continual(learner, families, _problem(FIRST), estimator=Unrolled(), outer=OUTER, **more)
