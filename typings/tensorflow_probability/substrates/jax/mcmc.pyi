from typing import Any

from jax import Array
from jax.typing import ArrayLike

def sample_halton_sequence(
    dim: int,
    num_results: ArrayLike | None = None,
    sequence_indices: ArrayLike | None = None,
    dtype: Any = ...,
    randomized: bool = True,
    seed: Array | None = None,
    name: str | None = None,
) -> Array: ...
