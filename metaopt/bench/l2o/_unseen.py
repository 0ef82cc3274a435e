"""Tasks that no pretrained optimizer was trained on."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from ...tasks import DenseNetwork, DigitsConv, DigitsMLP, Generated, Mnist1D


class _PoissonNetworkTask(AbstractLossTask):
    r"""Solve $-u'' = f$ on $(0, 1)$ with a network: $u(x) = x (1 - x) \, N(x)$, so that $u(0) = u(1) = 0$.

    The loss is the mean squared residual at 32 random points, `measure` that at 128 even ones.
    """

    network: DenseNetwork
    forcing: Float[Array, " modes"]

    def init(self, *, key: PRNGKeyArray) -> tuple[dict[str, Float[Array, "..."]], ...]:
        return self.network.init(key=key)

    def loss(self, params: tuple[dict[str, Float[Array, "..."]], ...], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self._residual(params, jr.uniform(key, (32,)))

    def measure(self, params: tuple[dict[str, Float[Array, "..."]], ...], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self._residual(params, jnp.arange(0.5, 128) / 128)

    def _residual(self, params: tuple[dict[str, Float[Array, "..."]], ...], x: Float[Array, " n"]) -> Float[Array, ""]:
        def solution(x: Float[Array, ""]) -> Float[Array, ""]:
            return x * (1 - x) * self.network.apply(params, x.reshape(1, 1))[0, 0]

        modes = jnp.arange(1.0, self.forcing.shape[0] + 1)
        force = jnp.sin(jnp.pi * x[:, None] * modes[None]) @ self.forcing
        return jnp.mean(jnp.square(-jax.vmap(jax.grad(jax.grad(solution)))(x) - force))


class _PoissonNetworks(AbstractTaskFamily):
    """Physics-informed networks for random forcings of four sine modes."""

    width: int = eqx.field(static=True, default=32)

    def sample(self, *, key: PRNGKeyArray) -> _PoissonNetworkTask:
        return _PoissonNetworkTask(DenseNetwork((1, self.width, self.width, 1), "tanh"), jr.normal(key, (4,)))


@dataclasses.dataclass(frozen=True)
class Unseen:
    """A family, the steps that its tasks get, and what is new about it."""

    family: AbstractTaskFamily
    steps: int
    novelty: str


def unseen() -> dict[str, Unseen]:
    """Families by name. None was part of the training of a pretrained optimizer; images and languages are held out."""

    def made(**options: object) -> Generated:
        return Generated(split="held_out", **options)  # type: ignore[arg-type]

    return {
        "wide": Unseen(made(width=256), 300, "4 times as wide as any"),
        "deep": Unseen(made(width=32, depth=6), 300, "6 hidden layers, trained on at most 4"),
        "convolutional": Unseen(DigitsConv("held_out"), 300, "no convolution was trained on"),
        "autoencoder": Unseen(
            made(data="digit_images", width=16, depth=3, activation="tanh", criterion="squared_error"),
            300,
            "no autoencoder was trained on",
        ),
        "recurrent": Unseen(
            made(architecture="recurrent", data="mnist_1d", width=32), 300, "signals of MNIST-1D, twice as wide"
        ),
        "transformer": Unseen(
            made(architecture="attention", data="text", width=32, depth=2, batch_size=16),
            300,
            "attention on text; another language",
        ),
        "text": Unseen(
            made(data="text", width=128, depth=2, activation="gelu"), 300, "another language, wider, deeper"
        ),
        "mnist_1d": Unseen(Mnist1D("held_out", (64, 64)), 300, "no MNIST-1D was trained on"),
        "mnist_1d_wide": Unseen(Mnist1D("held_out", (256,), activation="gelu"), 300, "no MNIST-1D, 4 times as wide"),
        "pinn": Unseen(_PoissonNetworks(), 300, "a differential equation"),
        "logistic": Unseen(DigitsMLP("held_out", ()), 300, "no hidden layer"),
        "waves": Unseen(
            Generated(data="waves", width=128, depth=2, activation="gelu", criterion="squared_error"),
            300,
            "twice as wide as any",
        ),
        "ill_conditioned": Unseen(
            made(width=32, condition=1000.0, batch_size=8), 300, "inputs over three orders of magnitude"
        ),
        "long": Unseen(DigitsMLP("held_out"), 3000, "10 times as many steps; 3 times the longest horizon"),
    }
