"""What a backend is: other implementations of the same kernels, chosen when a function is compiled."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from ._network import Network


T = TypeVar("T")

EPSILON = 1e-5
"""Added to mean squares before features are divided by their roots."""


class Feature(NamedTuple):
    """One input of a per-parameter network.

    `value` is broadcastable to the tensor: a feature that depends on the row alone has size 1 along the columns, and
    is then paid for once per row. `square` may give `value**2` where that is cheaper than squaring `value`.
    """

    value: Float[Array, "..."]
    square: Float[Array, "..."] | None = None


class Pointwise(NamedTuple):
    """The three functions around a per-parameter network. All are elementwise, and close over no arrays.

    - `observe(param, state, operands)` gives the new state and what is known of the parameters then.
    - `features(seen)` lists the inputs of the network, made of what is known.
    - `finish(seen, outputs)` makes the new parameters of it and the network's outputs.

    They are called with whole tensors, with tiles of them, or with single elements.
    """

    observe: Callable[[Any, Any, Any], tuple[Any, Any]]
    features: Callable[[Any], Sequence[Feature]]
    finish: Callable[[Any, Sequence[Any]], Any]


class Tensor(NamedTuple):
    """What is updated: an array of parameters, and what belongs to it.

    **Attributes:**

    - `param`: the parameters.
    - `state`: what is remembered of them; each leaf has the shape of `param` last. Further axes in front are free:
        momenta with `k` decays are one leaf `[k, *shape]`.
    - `operands`: what is read, such as gradients. Each leaf is a scalar, or its last axes are broadcastable to the
        shape of `param`. [`metaopt.backend.per_tensor`][] makes leaves that are constant over the tensor.
    - `name`: where it stands among all parameters.
    - `axes`: the mesh axes over which it is spread, inside of `jax.shard_map`: `param` is then a part of it, and means
        are taken over all parts.
    """

    param: Float[Array, "..."]
    state: PyTree[Float[Array, "..."]]
    operands: PyTree[Float[Array, "..."]]
    name: str = ""
    axes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.param.shape


class Updated(NamedTuple):
    """What a kernel makes of a tensor: its new state and its new parameters."""

    state: PyTree[Float[Array, "..."]]
    param: Float[Array, "..."]


class AbstractBackend(eqx.Module):
    """A set of kernels. One that has a faster form of some of them leaves the others to [`metaopt.backend.XLA`][].

    Backends have no leaves and are hashable: the choice is part of the structure of the algorithms that hold them, so
    it is part of the cache key of `jax.jit` and costs nothing at run time.
    """

    @staticmethod
    @abc.abstractmethod
    def unusable() -> str | None:
        """Why it cannot be used on this machine, as the end of a sentence; nothing if it can."""

    @abc.abstractmethod
    def network_update(
        self,
        pointwise: Pointwise,
        network: Network,
        context: Float[Array, " context"],
        tensors: Sequence[Tensor],
    ) -> list[Updated]:
        r"""Update every tensor by one small network that sees each of its elements.

        With the new state $s$ and what is seen then, features $f_k$ of that, an array per tensor, and a context $c$
        that all elements of all tensors share,

        $$\theta \leftarrow \mathrm{finish}\left(N\left(\frac{f_1}{\sqrt{\overline{f_1^2} + 10^{-5}}}, \ldots,
              \frac{f_K}{\sqrt{\overline{f_K^2} + 10^{-5}}}, c_1, \ldots, c_T\right)\right)$$

        where the bars are means over the tensor.

        **Arguments:**

        - `pointwise`: what is remembered, seen, and done with the outputs.
        - `network`: takes $K + T$ inputs.
        - `context`: the $T$ inputs that are the same everywhere, such as features of the time.
        - `tensors`: what to update.

        **Returns:**

        The new state and the new parameters of each tensor.
        """

    @abc.abstractmethod
    def elementwise_update(
        self, update: Callable[[Any, Sequence[Tensor]], list[Updated]], shared: PyTree, tensors: Sequence[Tensor]
    ) -> list[Updated]:
        """Update every tensor by a function of one's own that treats each element on its own.

        **Arguments:**

        - `update`: makes the new states and parameters of `shared` and the tensors, or of parts of all tensors.
        - `shared`: what all elements see, such as weights.
        - `tensors`: what to update.

        **Returns:**

        The new state and the new parameters of each tensor.
        """

    @abc.abstractmethod
    def perturb(self, params: T, noise: T, total: T, restart: Bool[Array, ""]) -> tuple[T, T]:
        r"""Perturb parameters antithetically, and add the perturbation to those before it.

        $$(\theta + \epsilon, \theta - \epsilon), \qquad \Sigma \leftarrow [\text{not restart}]\, \Sigma + \epsilon$$

        **Arguments:**

        - `params`, `noise`, `total`: trees of the same structure: $\theta$, $\epsilon$ and $\Sigma$.
        - `restart`: whether the sum begins anew.

        **Returns:**

        Both perturbed parameters on a leading axis, and the new sum.
        """

    @abc.abstractmethod
    def gram(self, vectors: Float[Array, "m *n"]) -> Float[Array, "m m"]:
        r"""Inner products $G_{ij} = \langle v_i, v_j \rangle$ of some arrays, as DIIS and Anderson mixing need them."""

    @abc.abstractmethod
    def combine(self, coefficients: Float[Array, " m"], vectors: Float[Array, "m *n"]) -> Float[Array, "*n"]:
        r"""The extrapolation $\sum_i c_i v_i$."""

    @abc.abstractmethod
    def contract_pairs(
        self, integrals: Float[Array, "pairs pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        r"""The field of a symmetric density, $V_{ij} = \sum_{kl} (ij|kl) D_{kl}$.

        **Arguments:**

        - `integrals`: $(ij|kl)$ over pairs $i \ge j$ and $k \ge l$, packed row by row.
        - `density`: $D$.
        """

    @abc.abstractmethod
    def exchange_of_factors(
        self, factors: Float[Array, "auxiliary pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        r"""The exchange of a symmetric density, $K_{ij} = \sum_{Pkl} B^P_{ik} B^P_{jl} D_{kl}$.

        **Arguments:**

        - `factors`: $B$, with pairs $i \ge k$ packed row by row.
        - `density`: $D$.
        """


class AbstractPartialBackend(AbstractBackend):
    """A backend that has a form of its own of the network update, and leaves all other kernels to another backend."""

    reference: eqx.AbstractVar[AbstractBackend]
    """The backend that has the others."""

    def elementwise_update(
        self, update: Callable[[Any, Sequence[Tensor]], list[Updated]], shared: PyTree, tensors: Sequence[Tensor]
    ) -> list[Updated]:
        return self.reference.elementwise_update(update, shared, tensors)

    def perturb(self, params: T, noise: T, total: T, restart: Bool[Array, ""]) -> tuple[T, T]:
        return self.reference.perturb(params, noise, total, restart)

    def gram(self, vectors: Float[Array, "m *n"]) -> Float[Array, "m m"]:
        return self.reference.gram(vectors)

    def combine(self, coefficients: Float[Array, " m"], vectors: Float[Array, "m *n"]) -> Float[Array, "*n"]:
        return self.reference.combine(coefficients, vectors)

    def contract_pairs(
        self, integrals: Float[Array, "pairs pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        return self.reference.contract_pairs(integrals, density)

    def exchange_of_factors(
        self, factors: Float[Array, "auxiliary pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        return self.reference.exchange_of_factors(factors, density)


def per_tensor(x: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Give numbers that belong to a whole tensor the trailing axes of size one that an operand has."""
    return x.reshape(x.shape + (1,) * len(shape))
