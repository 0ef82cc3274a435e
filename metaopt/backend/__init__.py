from ._network import Layer as Layer, Network as Network
from ._xla import XLA as XLA
from .base import (
    AbstractBackend as AbstractBackend,
    Feature as Feature,
    Pointwise as Pointwise,
    Tensor as Tensor,
    Updated as Updated,
    per_tensor as per_tensor,
)
