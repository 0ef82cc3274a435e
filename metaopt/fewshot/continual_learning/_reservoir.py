"""Tasks that are kept."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ..._core import AbstractTask, AbstractTaskFamily
from ..._core.arrays._numbers import check_counts


class Reservoir(AbstractTaskFamily):
    r"""A fair sample of all tasks that came by, and the family of those that are kept.

    The $n$-th task is kept if $n \le m$, the capacity; later ones replace a random one of those kept with probability
    $m / n$. So each task that came by is among those kept with the same probability, however many there are. The tasks
    have one structure, shapes and static parts; all is pure and of fixed size.

    **Arguments:**

    - `like`: a task of the kind that is kept; itself it is not.
    - `capacity`: how many are kept.

    **Raises:**

    - `ValueError`: if `capacity` is below 1.

    ??? cite "Reference"

        ```bibtex
        @article{vitter1985random,
          title={Random Sampling with a Reservoir},
          author={Vitter, Jeffrey S.},
          journal={ACM Transactions on Mathematical Software}, year={1985}
        }
        ```
    """

    tasks: PyTree
    count: Int[Array, ""]
    capacity: int = eqx.field(static=True)

    def __init__(self, like: AbstractTask[PyTree, PyTree], capacity: int):
        check_counts(capacity=capacity)
        self.tasks = jtu.tree_map(lambda x: jnp.broadcast_to(x, (capacity, *x.shape)) if eqx.is_array(x) else x, like)
        self.count = jnp.zeros((), jnp.int32)
        self.capacity = capacity

    def add(self, task: AbstractTask[PyTree, PyTree], *, key: PRNGKeyArray) -> "Reservoir":
        """See one more task, and perhaps keep it.

        **Arguments:**

        - `task`: the task.
        - `key`: decides what makes room.

        **Returns:**

        The new reservoir.
        """
        drawn = jr.randint(key, (), 0, self.count + 1, jnp.int32)
        place = jnp.where(self.count < self.capacity, self.count, drawn)
        # A place beyond the last one is not written to.
        tasks = jtu.tree_map(
            lambda kept, new: kept.at[place].set(new, mode="drop") if eqx.is_array(kept) else kept, self.tasks, task
        )
        return eqx.tree_at(lambda x: (x.tasks, x.count), self, (tasks, self.count + 1))

    def sample(self, *, key: PRNGKeyArray) -> AbstractTask[PyTree, PyTree]:
        held = jnp.minimum(self.count, self.capacity)
        count = eqx.error_if(held, held == 0, "The reservoir is empty: `add` a task before you sample one.")
        place = jr.randint(key, (), 0, count, jnp.int32)
        return jtu.tree_map(lambda kept: kept[place] if eqx.is_array(kept) else kept, self.tasks)
