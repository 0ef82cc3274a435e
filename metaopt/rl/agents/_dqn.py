"""Values of actions, learned from differences in time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, FRACTION, NONNEGATIVE, SHARE, check_counts, number
from .._spaces import Actor, Discrete, Dueling, Network
from ..base import AbstractAgent, AbstractEnvironment
from ._common import adam
from ._exploration import AbstractExploration, EpsilonGreedy
from ._replay import Replay
from ._rollout import Running, Steps, run, start


class _DQNState(eqx.Module):
    network: Network | Dueling
    target: Network | Dueling
    outer: PyTree
    replay: Replay
    running: Running


class DQN(AbstractAgent[_DQNState]):
    r"""Deep Q-learning: double, dueling, over several steps, with a replay memory.

    From sequences of $n$ steps that are drawn from the memory, with the network $q$ and its slow copy $\bar q$,

    $$y = \sum_{k < n} \gamma^k r_k + \gamma^n \, \bar q\big(x_n, \arg\max_a q(x_n, a)\big), \qquad
      L = \mathrm{huber}(q(x_0, a_0) - y)$$

    where the sum ends with the episode, and nothing is added if it was terminated. After each update
    $\bar q \leftarrow \bar q + \tau (q - \bar q)$. Actions must be discrete.

    ??? cite "Reference"

        ```bibtex
        @article{mnih2015human,
          title={Human-level control through deep reinforcement learning},
          author={Mnih, Volodymyr and others},
          journal={Nature}, volume={518}, pages={529--533}, year={2015}
        }
        @inproceedings{vanhasselt2016deep,
          title={Deep Reinforcement Learning with Double {Q}-Learning},
          author={van Hasselt, Hado and Guez, Arthur and Silver, David},
          booktitle={AAAI}, year={2016}
        }
        ```
    """

    outer: AbstractAlgorithm[Any, Any, Any]
    exploration: AbstractExploration
    hidden: tuple[int, ...] = eqx.field(static=True)
    environments: int = eqx.field(static=True)
    rollout: int = eqx.field(static=True)
    updates: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    capacity: int = eqx.field(static=True)
    returns: int = eqx.field(static=True)
    discount: Float[Array, ""]
    target_rate: Float[Array, ""]
    double: bool = eqx.field(static=True)
    dueling: bool = eqx.field(static=True)

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        learning_rate: float = 1e-3,
        *,
        environments: int = 64,
        rollout: int = 10,
        updates: int = 8,
        batch_size: int = 256,
        capacity: int = 256,
        returns: int = 1,
        discount: float = 0.99,
        target_rate: float = 0.01,
        double: bool = True,
        dueling: bool = True,
        exploration: AbstractExploration | None = None,
        outer: AbstractAlgorithm[Any, Any, Any] | None = None,
    ):
        r"""**Arguments:**

        - `hidden`: the sizes of hidden layers.
        - `learning_rate`: of Adam, which learns if no other algorithm is given.
        - `environments`: how many episodes run side by side.
        - `rollout`: how many steps of each make an update of the agent.
        - `updates`: how many steps of learning follow.
        - `batch_size`: how many sequences are drawn for each.
        - `capacity`: how many steps of each environment are remembered.
        - `returns`: $n$.
        - `discount`: $\gamma$.
        - `target_rate`: $\tau$.
        - `double`: whether the action at $x_n$ is chosen by $q$; otherwise by $\bar q$.
        - `dueling`: whether the network is a [`metaopt.rl.Dueling`][] one.
        - `exploration`: by default [`metaopt.rl.EpsilonGreedy`][].
        - `outer`: any algorithm.

        **Raises:**

        - `ValueError`: if a count is below 1, or the memory does not hold a rollout.
        """
        COUNT.check(hidden=hidden)
        NONNEGATIVE.check(learning_rate=learning_rate)
        FRACTION.check(discount=discount)
        SHARE.check(target_rate=target_rate)
        check_counts(
            environments=environments, rollout=rollout, updates=updates, batch_size=batch_size, returns=returns
        )
        if capacity < max(rollout, returns):
            raise ValueError(
                f"`capacity` must hold a `rollout` of {rollout} steps and sequences of {returns}, but {capacity} was "
                "given."
            )
        self.hidden, self.environments, self.rollout, self.updates = tuple(hidden), environments, rollout, updates
        self.batch_size, self.capacity, self.returns = batch_size, capacity, returns
        self.discount, self.target_rate = number(discount), number(target_rate)
        self.double, self.dueling = double, dueling
        self.exploration = EpsilonGreedy() if exploration is None else exploration
        self.outer = adam(learning_rate) if outer is None else outer

    def init(self, environment: AbstractEnvironment[Any], *, key: PRNGKeyArray) -> _DQNState:
        if not isinstance(environment.space, Discrete):
            raise ValueError("`DQN` chooses among discrete actions. Use `PPO` or `REINFORCE` for continuous ones.")
        network_key, start_key, outer_key = jr.split(key, 3)
        kind = Dueling if self.dueling else Network
        network = kind((environment.observation_size, *self.hidden, environment.space.outputs), key=network_key)
        running = start(environment, self.environments, key=start_key)
        seen = eqx.filter_eval_shape(self._act, environment, running, network, jnp.zeros(()), key)[1]
        row = jtu.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), seen)
        return _DQNState(
            network, network, self.outer.init(network, key=outer_key), Replay.empty(row, self.capacity), running
        )

    def _act(
        self,
        environment: AbstractEnvironment[Any],
        running: Running,
        network: Network | Dueling,
        progress: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[Running, Steps]:
        def choose(observation: Array, key: PRNGKeyArray) -> Array:
            return self.exploration.choose(network(observation), progress, key=key)

        return run(environment, running, choose, self.rollout, key=key)

    def update(
        self,
        state: _DQNState,
        environment: AbstractEnvironment[Any],
        progress: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> tuple[_DQNState, dict[str, Float[Array, ""]]]:
        act_key, learn_key = jr.split(key)
        running, steps = self._act(environment, state.running, state.network, progress, act_key)
        replay = state.replay.add(steps)
        dynamic, static = eqx.partition((state.network, state.target, state.outer), eqx.is_array)

        def learn(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""]]:
            network, target, outer = eqx.combine(dynamic, static)
            batch = replay.sample(self.batch_size, self.returns, key=key)
            loss, grads = eqx.filter_value_and_grad(self.loss)(network, target, batch)
            outer, network = self.outer.step(outer, network, grads, value=loss)
            target = jtu.tree_map(
                lambda old, new: old + self.target_rate * (new - old) if eqx.is_inexact_array(old) else old,
                target,
                network,
            )
            return eqx.filter((network, target, outer), eqx.is_array), loss

        dynamic, losses = jax.lax.scan(learn, dynamic, jr.split(learn_key, self.updates))
        network, target, outer = eqx.combine(dynamic, static)
        metrics = {"reward": jnp.mean(steps.reward), "loss": jnp.mean(losses)}
        return _DQNState(network, target, outer, replay, running), metrics

    def loss(self, network: Network | Dueling, target: Network | Dueling, batch: Steps) -> Float[Array, ""]:
        """The mean Huber loss on sequences of steps, with axes of the batch and of time."""
        undone = 1 - batch.done.astype(batch.reward.dtype)
        alive = jnp.concatenate([jnp.ones_like(undone[:, :1]), jnp.cumprod(undone, axis=1)[:, :-1]], axis=1)
        powers = self.discount ** jnp.arange(self.returns, dtype=alive.dtype)
        total = jnp.sum(batch.reward * alive * powers[None], axis=1)
        count = jnp.sum(alive, axis=1).astype(jnp.int32)
        rows, final = jnp.arange(count.size), count - 1
        ended, following = batch.terminated[rows, final], batch.following[rows, final]
        slow = jax.vmap(target)(following)
        chosen = jnp.argmax(jax.vmap(network)(following) if self.double else slow, axis=-1)
        ahead = _of(slow, chosen)
        wanted = total + jnp.where(ended, 0, self.discount ** count.astype(total.dtype) * ahead)
        value = _of(jax.vmap(network)(batch.observation[:, 0]), batch.action[:, 0])
        return jnp.mean(optax.huber_loss(value, jax.lax.stop_gradient(wanted)))

    def actor(self, state: _DQNState, environment: AbstractEnvironment[Any]) -> Actor:
        return Actor(state.network, environment.space)


def _of(values: Float[Array, "batch actions"], action: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """The values of these actions, without an index, whose derivative would be a scatter."""
    return jnp.sum(
        jnp.where(jnp.arange(values.shape[1], dtype=action.dtype)[None] == action[:, None], values, 0), axis=1
    )
