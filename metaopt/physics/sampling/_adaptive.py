"""Interior points where the residual is large."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core.arrays._numbers import NONNEGATIVE, check_counts, number
from .._pinn import PINN
from ..base import AbstractResampling, Points


def _draw(
    task: PINN,
    params: PyTree,
    count: int,
    candidates: int,
    power: Float[Array, ""],
    offset: Float[Array, ""],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "{count} d"]:
    """Draw among `candidates` times as many uniform points, without replacement, by the size of the residual."""
    draw_key, choose_key = jr.split(key)
    pool = task.domain.sample(candidates * count, key=draw_key, sampler=task.sampler)
    size = jnp.sqrt(jnp.sum(task.physics(params, pool) ** 2, axis=1)) ** power.astype(pool.dtype)
    shares = size / jnp.mean(size) + offset.astype(pool.dtype)
    return pool[jr.choice(choose_key, pool.shape[0], (count,), replace=False, p=shares / jnp.sum(shares))]


def _with_interior(task: PINN, x: Float[Array, "n d"]) -> PINN:
    return eqx.tree_at(lambda t: t.points, task, (Points(x), *task.points[1:]))


class RAD(AbstractResampling):
    r"""Draw all interior points anew, with a density proportional to $|r|^k / E|r|^k + c$.

    **Arguments:**

    - `power`: $k$.
    - `offset`: $c$.
    - `candidates`: among how many times as many uniform points is drawn.

    ??? cite "Reference"

        ```bibtex
        @article{wu2023comprehensive,
            title={A comprehensive study of non-adaptive and residual-based adaptive sampling for physics-informed
                neural networks},
            author={Wu, Chenxi and Zhu, Min and Tan, Qinyang and Kartha, Yadhu and Lu, Lu},
            journal={Computer Methods in Applied Mechanics and Engineering},
            volume={403},
            pages={115671},
            year={2023},
        }
        ```
    """

    power: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    offset: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    candidates: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(power=self.power, offset=self.offset)
        check_counts(candidates=self.candidates)

    def resample(self, task: PINN, params: PyTree, *, key: PRNGKeyArray) -> PINN:
        count = task.points[0].x.shape[0]
        return _with_interior(task, _draw(task, params, count, self.candidates, self.power, self.offset, key=key))


class RARD(AbstractResampling):
    r"""Keep the interior points and add some, with a density proportional to $|r|^k / E|r|^k + c$.

    Shapes grow, so that what runs on the task is compiled anew.

    **Arguments:**

    - `added`: how many points are added.
    - `power`: $k$.
    - `offset`: $c$.
    - `candidates`: among how many times as many uniform points is drawn.

    ??? cite "Reference"

        ```bibtex
        @article{wu2023comprehensive,
            title={A comprehensive study of non-adaptive and residual-based adaptive sampling for physics-informed
                neural networks},
            author={Wu, Chenxi and Zhu, Min and Tan, Qinyang and Kartha, Yadhu and Lu, Lu},
            journal={Computer Methods in Applied Mechanics and Engineering},
            volume={403},
            pages={115671},
            year={2023},
        }
        ```
    """

    added: int = eqx.field(static=True, default=50)
    power: Float[Array, ""] = eqx.field(converter=number, default=2.0)
    offset: Float[Array, ""] = eqx.field(converter=number, default=0.0)
    candidates: int = eqx.field(static=True, default=40)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(power=self.power, offset=self.offset)
        check_counts(added=self.added, candidates=self.candidates)

    def resample(self, task: PINN, params: PyTree, *, key: PRNGKeyArray) -> PINN:
        new = _draw(task, params, self.added, self.candidates, self.power, self.offset, key=key)
        return _with_interior(task, jnp.concatenate([task.points[0].x, new]))
