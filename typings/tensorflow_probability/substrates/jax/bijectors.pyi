from collections.abc import Sequence
from typing import Any, overload

from jax import Array
from jax.typing import ArrayLike

from .distributions import Distribution, TransformedDistribution

class Bijector:
    @property
    def name(self) -> str: ...
    @property
    def forward_min_event_ndims(self) -> Any: ...
    @property
    def inverse_min_event_ndims(self) -> Any: ...
    def forward(self, x: ArrayLike, name: str = "forward", **kwargs: Any) -> Array: ...
    def inverse(self, y: ArrayLike, name: str = "inverse", **kwargs: Any) -> Array: ...
    def forward_log_det_jacobian(
        self,
        x: ArrayLike,
        event_ndims: int | None = None,
        name: str = "forward_log_det_jacobian",
        **kwargs: Any,
    ) -> Array: ...
    def inverse_log_det_jacobian(
        self,
        y: ArrayLike,
        event_ndims: int | None = None,
        name: str = "inverse_log_det_jacobian",
        **kwargs: Any,
    ) -> Array: ...
    @overload
    def __call__(self, value: Bijector, name: str | None = None, **kwargs: Any) -> Chain: ...
    @overload
    def __call__(self, value: Distribution, name: str | None = None, **kwargs: Any) -> TransformedDistribution: ...
    @overload
    def __call__(self, value: ArrayLike, name: str | None = None, **kwargs: Any) -> Array: ...

class Chain(Bijector):
    def __init__(
        self,
        bijectors: Sequence[Bijector] | None = None,
        validate_args: bool = False,
        validate_event_size: bool = False,
        parameters: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None: ...
    @property
    def bijectors(self) -> Sequence[Bijector]: ...

class Invert(Bijector):
    def __init__(
        self,
        bijector: Bijector,
        validate_args: bool = False,
        parameters: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None: ...
    @property
    def bijector(self) -> Bijector: ...

class Identity(Bijector):
    def __init__(self, validate_args: bool = False, name: str = "identity") -> None: ...

class Exp(Bijector):
    def __init__(self, validate_args: bool = False, name: str = "exp") -> None: ...

class Log(Bijector):
    def __init__(self, validate_args: bool = False, name: str = "log") -> None: ...

class Tanh(Bijector):
    def __init__(self, validate_args: bool = False, name: str = "tanh") -> None: ...

class Softplus(Bijector):
    def __init__(
        self,
        hinge_softness: ArrayLike | None = None,
        low: ArrayLike | None = None,
        validate_args: bool = False,
        name: str = "softplus",
    ) -> None: ...

class Sigmoid(Bijector):
    def __init__(
        self,
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
        validate_args: bool = False,
        name: str = "sigmoid",
    ) -> None: ...

class Shift(Bijector):
    def __init__(self, shift: ArrayLike, validate_args: bool = False, name: str = "shift") -> None: ...

class Scale(Bijector):
    def __init__(
        self,
        scale: ArrayLike | None = None,
        log_scale: ArrayLike | None = None,
        validate_args: bool = False,
        name: str = "scale",
    ) -> None: ...

class SoftmaxCentered(Bijector):
    def __init__(self, validate_args: bool = False, name: str = "softmax_centered") -> None: ...
