"""Regression on the outputs of a random network."""

from itertools import accumulate

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import Activation, check_above, check_at_least, check_choice, check_sizes, mean_squared_error
from ..networks._networks import DenseNetwork, Layers


class TeacherStudentTask(AbstractLossTask):
    r"""Train a network to agree with another one of the same architecture on Gaussian inputs.

    $$\ell(\theta) = \frac{1}{B d} \sum_{i=1}^B \lVert f_\theta(x_i) - f_{\theta^*}(x_i) \rVert^2,
      \qquad x_i \sim N(0, I)$$

    Every minibatch is fresh. `measure` is the same mean over a fixed batch that belongs to the task. The minimum of
    both is zero, at $\theta^*$.

    **Arguments:**

    - `network`: $f$.
    - `teacher`: $\theta^*$.
    - `evaluation_key`: draws the fixed batch.
    - `batch_size`: $B$.
    - `evaluation_size`: how many points the fixed batch has.
    - `start_scale`: the student's first weights are drawn from $N(0, \text{start\_scale}^2 / \text{fan-in})$.
    """

    network: DenseNetwork
    teacher: Layers
    evaluation_key: PRNGKeyArray
    batch_size: int = eqx.field(static=True, default=64)
    evaluation_size: int = eqx.field(static=True, default=512)
    start_scale: float = eqx.field(static=True, default=1.0)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return _scaled(self.network.init(key=key), self.start_scale)

    def loss(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self._error(params, self.batch_size, key=key)

    def measure(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self._error(params, self.evaluation_size, key=self.evaluation_key)

    def _error(self, params: Layers, points: int, *, key: PRNGKeyArray) -> Float[Array, ""]:
        inputs = jr.normal(key, (points, self.network.sizes[0]), self.teacher[0]["w"].dtype)
        return mean_squared_error(self.network.apply(params, inputs), self.network.apply(self.teacher, inputs))


class TeacherStudent(AbstractTaskFamily):
    r"""Draw teachers for a student network to imitate. See [`metaopt.tasks.TeacherStudentTask`][] for the loss.

    The teacher's weights are drawn from $N(0, \text{teacher\_scale}^2 / \text{fan-in})$, its biases from
    $N(0, \text{teacher\_scale}^2)$; the student's biases start at zero.

    **Arguments:**

    - `sizes`: inputs, hidden units and outputs of both networks.
    - `batch_size`: points per minibatch.
    - `activation`: the nonlinearity of both networks.
    - `evaluation_size`: points of the batch on which `measure` reports.
    - `teacher_scale`: the size of the teacher's weights.
    - `start_scale`: the size of the student's first weights.

    **Raises:**

    - `ValueError`: if there are fewer than two sizes, or a number is not positive.
    """

    sizes: tuple[int, ...] = eqx.field(static=True, default=(8, 16, 4))
    batch_size: int = eqx.field(static=True, default=64)
    activation: Activation = eqx.field(static=True, default="tanh")
    evaluation_size: int = eqx.field(static=True, default=512)
    teacher_scale: float = eqx.field(static=True, default=1.0)
    start_scale: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        check_sizes("sizes", self.sizes, fewest=2)
        check_choice("activation", self.activation, Activation)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("evaluation_size", self.evaluation_size, 1)
        check_above("teacher_scale", self.teacher_scale, 0)
        check_above("start_scale", self.start_scale, 0)

    def sample(self, *, key: PRNGKeyArray) -> TeacherStudentTask:
        weight_key, bias_key, evaluation_key = jr.split(key, 3)
        network = DenseNetwork(self.sizes, self.activation)
        units = self.sizes[1:]
        biases = jnp.split(jr.normal(bias_key, (sum(units),)), list(accumulate(units[:-1])))
        layers = network.init(key=weight_key)
        teacher = tuple({"b": bias, "w": layer["w"]} for bias, layer in zip(biases, layers, strict=True))
        return TeacherStudentTask(
            network,
            _scaled(teacher, self.teacher_scale),
            evaluation_key,
            self.batch_size,
            self.evaluation_size,
            self.start_scale,
        )


def _scaled(layers: Layers, scale: float) -> Layers:
    return jtu.tree_map(lambda x: scale * x, layers)
