"""What methods set up, and what users do with it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import metaopt
from metaopt import fewshot
from metaopt.fewshot import (
    ANIL,
    FOMAML,
    IMAML,
    MAML,
    AbstractMethod,
    MetaSGD,
    ProbabilisticMAML,
    Reptile,
    TrajectoryMeta,
)
from metaopt.l2o import MLP, LearnableAdam
from metaopt.tasks import Sinusoids
from tests._cases import slow

from .problems import LinearRegressions


FAMILY = Sinusoids(shots=5, queries=10, hidden=(4,))
METHODS = [
    MAML(steps=2, tasks=2),
    pytest.param(MAML(MLP(hidden_size=4), steps=2, tasks=2, remat=True), marks=pytest.mark.slow),
    *slow(FOMAML(LearnableAdam(0.01), steps=2, tasks=2), ANIL("1/*", steps=2, tasks=2)),
    *slow(MetaSGD(steps=2, tasks=2)),
    IMAML(steps=3, tasks=2, max_steps=3),
    Reptile(steps=3, tasks=4, batch_size=2),
    TrajectoryMeta(length=3, tasks=2),
    *slow(ProbabilisticMAML(steps=2, tasks=2, members=2)),
    pytest.param(TrajectoryMeta(LearnableAdam(0.01), length=3, tasks=2, second_order=False), marks=pytest.mark.slow),
]


def outer(rate: float = 1e-3) -> metaopt.AbstractAlgorithm:
    return metaopt.from_optax(optax.adam, learning_rate=rate)


def changed(a: Any, b: Any) -> bool:
    return not eqx.tree_equal(a, b)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_all_methods_go_through_the_one_loop(method: AbstractMethod) -> None:
    setup = method.setup(FAMILY, key=jr.split(jr.key(0))[0])
    result = fewshot.meta_learn(method, FAMILY, outer=outer(), steps=3, key=jr.key(0), progress=False)
    assert result.skipped == 0 and np.all(np.isfinite(result.history.values))
    assert changed(setup.learner.initial, result.learner.initial)
    rates_too = isinstance(method, MetaSGD | TrajectoryMeta)
    assert changed(setup.learner.algorithm, result.learner.algorithm) == rates_too
    assert jtu.tree_structure(setup.learner) == jtu.tree_structure(result.learner)


def test_learning_makes_adaptation_better() -> None:
    family = LinearRegressions()
    method = MAML(metaopt.from_optax(optax.sgd, learning_rate=0.1), steps=3, tasks=8)
    before = eqx.tree_at(lambda x: x.initial, method.setup(family, key=jr.key(0)).learner, 3 * jnp.ones(3))
    setup = method.setup(family, key=jr.key(0))
    result = metaopt.meta_train(
        before, setup.problem, estimator=setup.estimator, outer=outer(0.1), steps=50, key=jr.key(1), progress=False
    )
    losses = [metaopt.meta.validate(x, family, steps=3, tasks=50, key=jr.key(2)) for x in (before, result.learner)]
    assert losses[1] < 0.5 * losses[0]


def test_adapting_many_tasks_at_once() -> None:
    learner = MAML().setup(FAMILY, key=jr.key(0)).learner
    keys = jr.split(jr.key(1), 3)

    def adapted(key: Any) -> Any:
        return fewshot.adapt(learner, FAMILY.sample(key=key), steps=4, key=key)

    together = jax.jit(jax.vmap(adapted))(keys)
    assert together.values.shape == (3, 4)
    for i, key in enumerate(keys):
        singly = adapted(key)
        for a, b in zip(jtu.tree_leaves(singly.params), jtu.tree_leaves(together.params), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5)
        assert singly.values[-1] < singly.values[0]


def test_adapting_needs_an_initialization() -> None:
    task = FAMILY.sample(key=jr.key(0))
    with pytest.raises(ValueError, match=r"has no `initial` to adapt. Learn one"):
        fewshot.adapt(metaopt.Learner(outer()), task, steps=1, key=jr.key(0))
    learner = MAML().setup(FAMILY, key=jr.key(0)).learner
    with pytest.raises(ValueError, match="`steps` must be at least 1, but 0"):
        fewshot.adapt(learner, task, steps=0, key=jr.key(0))


@pytest.mark.parametrize("method", [MAML, FOMAML, MetaSGD, IMAML, Reptile])
@pytest.mark.parametrize("name", ["steps", "tasks", "batch_size"])
def test_counts_are_positive(method: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, but 0 was given"):
        method(**{name: 0})


def test_other_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="`length` must be at least 1"):
        TrajectoryMeta(length=0)
    with pytest.raises(ValueError, match="`regularization` must be at least 0"):
        TrajectoryMeta(regularization=-1.0)
    with pytest.raises(ValueError, match="`strength` must be positive"):
        IMAML(strength=0.0)
    with pytest.raises(ValueError, match="`max_steps` must be at least 1"):
        IMAML(max_steps=0)
    with pytest.raises(ValueError, match="`rate` must be positive"):
        MetaSGD(rate=0.0)
    with pytest.raises(ValueError, match="`tasks` must be at least 1"):
        ANIL("2/*", tasks=0)


def test_a_mixture_has_no_initialization_in_common() -> None:
    families: Any = metaopt.build(
        {"name": "mixture", "families": ["quadratics", "sinusoids"]}, metaopt.registry.Mixture
    )
    with pytest.raises(Exception, match="mixture of 2 families|did not match|Mixture"):
        MAML().setup(families, key=jr.key(0))


def test_parts_are_found_by_path() -> None:
    with pytest.raises(ValueError, match=r"`head/\*` matches no leaf of the parameters. Their paths are `0/b`, `0/w`"):
        ANIL("head/*").setup(FAMILY, key=jr.key(0))
    with pytest.raises(ValueError, match="`parts` is empty"):
        fewshot.OnlyParts(outer(), ())
    algorithm = fewshot.OnlyParts(metaopt.from_optax(optax.sgd, learning_rate=1.0), ("0/w", "1/*"))
    params: Any = [{"w": jnp.ones(2), "b": jnp.ones(2)}, {"w": jnp.ones(3), "n": 3}]
    grads = [{"w": jnp.ones(2), "b": jnp.ones(2)}, {"w": None, "n": None}]
    _, new = algorithm.step(algorithm.init(params), params, grads)
    assert eqx.tree_equal(new, [{"w": jnp.zeros(2), "b": jnp.ones(2)}, {"w": jnp.ones(3), "n": 3}])


def test_other_parts_have_no_state() -> None:
    algorithm = fewshot.OnlyParts(outer(), "head")
    state = algorithm.init({"body": jnp.ones(1000), "head": jnp.ones(2)})
    assert sum(x.size for x in jtu.tree_leaves(state)) < 10


def test_rates_may_be_a_prefix() -> None:
    params = {"a": jnp.ones(2), "b": {"c": jnp.ones(1), "n": 7}}
    grads = {"a": jnp.ones(2), "b": {"c": 2 * jnp.ones(1), "n": None}}
    cases = [
        (0.5, [0.5, 0.5], 0.0),
        ({"a": 0.25, "b": 0.5}, [0.75, 0.75], 0.0),
        ({"a": jnp.array([1.0, 0.0]), "b": 0.0}, [0.0, 1.0], 1.0),
    ]
    for rates, a, c in cases:
        algorithm = fewshot.PerParameterSGD(rates)
        _, new = algorithm.step(algorithm.init(params), params, grads)
        np.testing.assert_allclose(new["a"], a)
        np.testing.assert_allclose(new["b"]["c"], [c])
        assert new["b"]["n"] == 7
    like = fewshot.PerParameterSGD.like(params, 0.125)
    assert [x.shape for x in jtu.tree_leaves(like)] == [(2,), (1,)]
    assert all(jnp.all(x == 0.125) for x in jtu.tree_leaves(like))


def test_proximal_pulls_to_the_start() -> None:
    """Of a flat loss with slope g the proximal minimum is start - g / strength."""
    algorithm = metaopt.meta.Proximal(metaopt.from_optax(optax.sgd, learning_rate=0.1), 2.0)
    start, slope = jnp.array([1.0, -1.0]), jnp.array([0.5, 1.0])
    state, params = algorithm.init(start), start
    for _ in range(200):
        state, params = algorithm.step(state, params, slope)
    np.testing.assert_allclose(params, start - slope / 2, rtol=1e-5)
