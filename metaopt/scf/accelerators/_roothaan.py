"""No acceleration at all."""

from jaxtyping import PRNGKeyArray, Scalar

from ..base import AbstractAccelerator, Matrices, Signal


class Roothaan(AbstractAccelerator[tuple[()]]):
    """The plain iteration: each Fock matrix is diagonalized as it is.

    ??? cite "Reference"

        ```bibtex
        @article{roothaan1951new,
          title={New developments in molecular orbital theory},
          author={Roothaan, Clemens C. J.},
          journal={Reviews of Modern Physics}, volume={23}, pages={69--89}, year={1951}
        }
        ```
    """

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> tuple[()]:
        del params, key
        return ()

    def step(
        self, state: tuple[()], params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[tuple[()], Matrices]:
        del grads, value
        return state, params
