"""Every state owns its arrays: it can be donated, together with the parameters, and the algorithm stays whole."""

import collections
import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

import metaopt
from metaopt import rl
from metaopt._core.arrays._buffers import own
from metaopt.evaluate import Monitor
from metaopt.l2o import pretrained
from metaopt.meta import AbstractEstimator, ConstantHorizon, MeanLoss, MetaProblem
from metaopt.tasks import Mixture, Quadratics
from tests._cases import fast

from .algorithms import NAMES, make
from .running import init
from .trees import assert_close, draw


# Two tensors of one shape: what is made once for a shape must not be handed out twice.
LAYOUT = {
    "bias": ((3,), "float32"),
    "more": ((3,), "float32"),
    "scalar": ((), "float32"),
    "weight": ((2, 3), "float32"),
}
VALUE = 1.0


def _arrays(tree: Any) -> list[Array]:
    leaves = [leaf for leaf in jtu.tree_leaves(tree) if eqx.is_array(leaf)]
    return [jr.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]


def _shared(*trees: Any) -> list[str]:
    """Where two arrays of the first tree, or one of it and one of another tree, lie in the same memory."""
    counts = collections.Counter(x.unsafe_buffer_pointer() for x in _arrays(trees[0]))
    others = {x.unsafe_buffer_pointer() for x in _arrays(trees[1:])}
    names = [jtu.keystr(path) for path, x in jtu.tree_flatten_with_path(trees[0])[0] if eqx.is_array(x)]
    pointers = [x.unsafe_buffer_pointer() for x in _arrays(trees[0])]
    return [name for name, p in zip(names, pointers, strict=True) if counts[p] > 1 or p in others]


@pytest.mark.parametrize("name", NAMES)
def test_a_state_shares_no_memory(name: str) -> None:
    algorithm, params, key = make(name), draw(LAYOUT, 0), jr.key(0)
    state = algorithm.init(params, key=key)
    assert _shared(state, params, algorithm, key) == []


@pytest.mark.parametrize("name", NAMES)
def test_state_and_parameters_can_be_donated(name: str) -> None:
    algorithm, signals = make(name), [draw(LAYOUT, i) for i in (1, 2, 3)]
    step = jax.jit(
        lambda state, params, grads: algorithm.step(state, params, grads, value=jnp.asarray(VALUE)),
        donate_argnums=(0, 1),
    )

    def run() -> Any:
        params = draw(LAYOUT, 0)
        state = init(algorithm, params)
        for grads in signals:
            state, params = step(state, params, grads)
        return state, params

    first = run()
    assert not any(leaf.is_deleted() for leaf in _arrays(algorithm))
    assert_close(run(), first, rtol=0.0)


@pytest.mark.parametrize("name", ["adam", "nn_adam", "random_weighting"])
def test_through_the_door_to_optax(name: str) -> None:
    key = jr.key(0)
    tx = metaopt.to_optax(make(name), key=key)

    @jax.jit(donate_argnums=(0, 1))
    def step(state: Any, params: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params, value=jnp.asarray(VALUE))
        return state, optax.apply_updates(params, updates)

    for _ in range(2):
        params = draw(LAYOUT, 0)
        state = tx.init(params)
        for i in (1, 2, 3):
            state, params = step(state, params, draw(LAYOUT, i))
    assert not key.is_deleted()


@pytest.mark.parametrize("name", ["general", "small"])
def test_pretrained_rules_share_no_memory(name: str) -> None:
    algorithm, params = pretrained(name), draw(LAYOUT, 0)
    assert _shared(algorithm.init(params), params, algorithm) == []


class _Careless(metaopt.AbstractAlgorithm[Any, Any, Any]):
    """A rule of a user, whose state hands out whatever there is."""

    weights: Array

    def init(self, params: Any, *, key: Any = None) -> Any:
        """What a user says about it."""
        zeros = jnp.zeros(3)
        return {"all": (params, self.weights, key), "twice": [zeros, zeros, zeros.astype(zeros.dtype)]}

    def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> tuple[Any, Any]:
        return state, params


@pytest.fixture
def careless() -> _Careless:
    return _Careless(jnp.arange(3.0))


def test_rules_of_users_share_no_memory(careless: _Careless) -> None:
    params, key = draw(LAYOUT, 0), jr.key(0)
    state = careless.init(params, key=key)
    assert _shared(state, params, careless, key) == []
    assert_close(state["all"], (params, careless.weights, key), rtol=0.0)
    wrapped = metaopt.SkipNonFinite(careless).init(params, key=key)
    assert _shared(wrapped, params, careless, key) == []
    assert careless.init.__doc__ == "What a user says about it."
    assert list(inspect.signature(_Careless.init).parameters) == ["self", "params", "key"]


def test_under_transformations(careless: _Careless) -> None:
    params, key = draw(LAYOUT, 0), jr.key(0)
    make_state = lambda params: careless.init(params, key=key)  # noqa: E731
    batch = jtu.tree_map(lambda x: jnp.stack([x, x]), params)
    assert _shared(jax.jit(make_state)(params), params, careless, key) == []
    assert _shared(jax.vmap(make_state)(batch), batch, careless, key) == []
    assert _shared(jax.jvp(make_state, (params,), (params,))[0], params, careless, key) == []


def test_what_is_no_array_is_handed_out() -> None:
    marker = object()
    state = _Careless(jnp.arange(3.0)).init([marker, None, 2.0])
    assert state["all"][0][0] is marker
    assert state["all"][0][1:] == [None, 2.0]


def test_arrays_of_numpy_are_copied(careless: _Careless) -> None:
    params = np.ones(2)
    state = careless.init(params)
    params[:] = 0.0
    assert np.all(state["all"][0] == 1.0)


def test_arrays_stay_where_they_are(careless: _Careless) -> None:
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    spread = NamedSharding(mesh, PartitionSpec("a"))
    params = [jax.device_put(jnp.ones((8, 2)), spread), jax.device_put(jnp.ones(2), jax.devices()[3])]
    params.append(jax.device_put(jr.split(jr.key(0), 4), spread))
    state = careless.init(params)
    assert [x.sharding for x in state["all"][0]] == [x.sharding for x in params]
    places = [{s.data.unsafe_buffer_pointer() for s in x[0].addressable_shards} for x in (state["all"][0], params)]
    assert places[0].isdisjoint(places[1])


def test_what_is_gone_already_is_no_obstacle(careless: _Careless) -> None:
    params = jnp.ones(3)
    algorithm = metaopt.SkipNonFinite(make("sgd")), jnp.zeros(3)
    algorithm[1].delete()
    assert own(jnp.ones(3), algorithm, params).shape == (3,)


@pytest.mark.parametrize("name", fast(["pes", "truncated_unroll", "mixed"], "truncated_unroll", "mixed"))
def test_estimators_share_no_memory(name: str) -> None:
    key, learner = jr.key(0), metaopt.Learner(make("nn_adam"))
    truncated = {"name": "pes", "truncation": 1}
    spec = {"name": name, "inner": truncated} if name == "mixed" else {"name": name, "truncation": 1}
    family = Mixture((Quadratics(),)) if name == "mixed" else Quadratics()
    problem = MetaProblem(family, MeanLoss(), ConstantHorizon(2), tasks=2)
    state = metaopt.build(spec, AbstractEstimator).init(learner, problem, key=key)
    assert _shared(state, learner, problem, key) == []


@pytest.mark.parametrize("agent", ["ppo", "dqn", "reinforce"])
def test_agents_share_no_memory(agent: str) -> None:
    key, environment = jr.key(0), rl.sigmoid()
    made = metaopt.build({"name": agent, "hidden": [4]}, rl.AbstractAgent)
    assert _shared(made.init(environment, key=key), made, environment, key) == []


def test_a_monitor_shares_no_memory() -> None:
    params = draw(LAYOUT, 0)
    assert _shared(Monitor(capacity=4).init(params), params) == []
