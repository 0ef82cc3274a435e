from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from jax import Array
from jax.typing import ArrayLike

from .bijectors import Bijector
from .math.psd_kernels import PositiveSemidefiniteKernel

_Shape: TypeAlias = int | Sequence[int]

class Distribution:
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def parameters(self) -> dict[str, Any]: ...
    @property
    def batch_shape(self) -> Any: ...
    @property
    def event_shape(self) -> Any: ...
    # A joint distribution draws a structure of arrays; all others an array.
    def sample(
        self, sample_shape: _Shape = (), seed: Array | None = None, name: str = "sample", **kwargs: Any
    ) -> Any: ...
    def experimental_sample_and_log_prob(
        self, sample_shape: _Shape = (), seed: Array | None = None, name: str = "sample_and_log_prob", **kwargs: Any
    ) -> tuple[Any, Array]: ...
    def log_prob(self, value: Any, name: str = "log_prob", **kwargs: Any) -> Array: ...
    def prob(self, value: Any, name: str = "prob", **kwargs: Any) -> Array: ...
    def cdf(self, value: ArrayLike, name: str = "cdf", **kwargs: Any) -> Array: ...
    def quantile(self, value: ArrayLike, name: str = "quantile", **kwargs: Any) -> Array: ...
    def entropy(self, name: str = "entropy", **kwargs: Any) -> Array: ...
    def mean(self, name: str = "mean", **kwargs: Any) -> Any: ...
    def mode(self, name: str = "mode", **kwargs: Any) -> Any: ...
    def stddev(self, name: str = "stddev", **kwargs: Any) -> Any: ...
    def variance(self, name: str = "variance", **kwargs: Any) -> Any: ...
    def kl_divergence(self, other: Distribution, name: str = "kl_divergence") -> Array: ...

class Normal(Distribution):
    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Normal",
    ) -> None: ...
    @property
    def loc(self) -> Any: ...
    @property
    def scale(self) -> Any: ...

class Uniform(Distribution):
    def __init__(
        self,
        low: ArrayLike = 0.0,
        high: ArrayLike = 1.0,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Uniform",
    ) -> None: ...
    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...

class Gamma(Distribution):
    def __init__(
        self,
        concentration: ArrayLike,
        rate: ArrayLike | None = None,
        log_rate: ArrayLike | None = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        force_probs_to_zero_outside_support: bool = False,
        name: str = "Gamma",
    ) -> None: ...

class Beta(Distribution):
    def __init__(
        self,
        concentration1: ArrayLike,
        concentration0: ArrayLike,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        force_probs_to_zero_outside_support: bool = False,
        name: str = "Beta",
    ) -> None: ...

class Categorical(Distribution):
    def __init__(
        self,
        logits: ArrayLike | None = None,
        probs: Any = None,
        dtype: Any = ...,
        force_probs_to_zero_outside_support: bool = False,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Categorical",
    ) -> None: ...
    @property
    def logits(self) -> Any: ...
    @property
    def probs(self) -> Any: ...

class Bernoulli(Distribution):
    def __init__(
        self,
        logits: ArrayLike | None = None,
        probs: ArrayLike | None = None,
        dtype: Any = ...,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Bernoulli",
    ) -> None: ...

class Deterministic(Distribution):
    def __init__(
        self,
        loc: ArrayLike,
        atol: ArrayLike | None = None,
        rtol: ArrayLike | None = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Deterministic",
    ) -> None: ...

class MultivariateNormalDiag(Distribution):
    def __init__(
        self,
        loc: ArrayLike | None = None,
        scale_diag: ArrayLike | None = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        experimental_use_kahan_sum: bool = False,
        name: str = "MultivariateNormalDiag",
    ) -> None: ...

class Independent(Distribution):
    def __init__(
        self,
        distribution: Distribution,
        reinterpreted_batch_ndims: int | None = None,
        validate_args: bool = False,
        experimental_use_kahan_sum: bool = False,
        name: str | None = None,
    ) -> None: ...

class Sample(Distribution):
    def __init__(
        self,
        distribution: Distribution,
        sample_shape: _Shape = (),
        validate_args: bool = False,
        experimental_use_kahan_sum: bool = False,
        name: str | None = None,
    ) -> None: ...

class TransformedDistribution(Distribution):
    def __init__(
        self,
        distribution: Distribution,
        bijector: Bijector,
        kwargs_split_fn: Callable[..., Any] = ...,
        validate_args: bool = False,
        parameters: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None: ...
    @property
    def distribution(self) -> Distribution: ...
    @property
    def bijector(self) -> Bijector: ...

class LogNormal(TransformedDistribution):
    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "LogNormal",
    ) -> None: ...
    @property
    def loc(self) -> Any: ...
    @property
    def scale(self) -> Any: ...

class MixtureSameFamily(Distribution):
    def __init__(
        self,
        mixture_distribution: Distribution,
        components_distribution: Distribution,
        reparameterize: bool = False,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "MixtureSameFamily",
    ) -> None: ...

class JointDistribution(Distribution): ...

class JointDistributionNamed(JointDistribution):
    # Each entry is a distribution, or a function of earlier entries (by name) that returns one.
    def __init__(
        self,
        model: Mapping[str, Distribution | Callable[..., Distribution]],
        batch_ndims: int | None = None,
        use_vectorized_map: bool = False,
        validate_args: bool = False,
        experimental_use_kahan_sum: bool = False,
        name: str | None = None,
    ) -> None: ...
    def sample(
        self, sample_shape: _Shape = (), seed: Array | None = None, name: str = "sample", **kwargs: Any
    ) -> dict[str, Any]: ...

class JointDistributionSequential(JointDistribution):
    def __init__(
        self,
        model: Sequence[Distribution | Callable[..., Distribution]],
        batch_ndims: int | None = None,
        use_vectorized_map: bool = False,
        validate_args: bool = False,
        experimental_use_kahan_sum: bool = False,
        name: str | None = None,
    ) -> None: ...

class GaussianProcessRegressionModel(Distribution):
    def __init__(
        self,
        kernel: PositiveSemidefiniteKernel,
        index_points: ArrayLike | None = None,
        observation_index_points: ArrayLike | None = None,
        observations: ArrayLike | None = None,
        observation_noise_variance: ArrayLike = 0.0,
        predictive_noise_variance: ArrayLike | None = None,
        mean_fn: Callable[..., Array] | None = None,
        cholesky_fn: Callable[..., Array] | None = None,
        jitter: ArrayLike = 1e-6,
        validate_args: bool = False,
        allow_nan_stats: bool = False,
        name: str = "GaussianProcessRegressionModel",
        _conditional_kernel: Any = None,
        _conditional_mean_fn: Any = None,
    ) -> None: ...
