from jax.typing import ArrayLike

class PositiveSemidefiniteKernel: ...

class ExponentiatedQuadratic(PositiveSemidefiniteKernel):
    def __init__(
        self,
        amplitude: ArrayLike | None = None,
        length_scale: ArrayLike | None = None,
        inverse_length_scale: ArrayLike | None = None,
        feature_ndims: int = 1,
        validate_args: bool = False,
        name: str = "ExponentiatedQuadratic",
    ) -> None: ...

class MaternFiveHalves(PositiveSemidefiniteKernel):
    def __init__(
        self,
        amplitude: ArrayLike | None = None,
        length_scale: ArrayLike | None = None,
        inverse_length_scale: ArrayLike | None = None,
        feature_ndims: int = 1,
        validate_args: bool = False,
        name: str = "MaternFiveHalves",
    ) -> None: ...
