from ._discovery import (
    automatic as automatic,
    find as find,
    installed as installed,
    unusable as unusable,
)
from ._network import Layer as Layer, Network as Network
from ._sharded import Sharded as Sharded
from ._xla import XLA as XLA
from .base import (
    EPSILON as EPSILON,
    AbstractBackend as AbstractBackend,
    AbstractPartialBackend as AbstractPartialBackend,
    Feature as Feature,
    Pointwise as Pointwise,
    Tensor as Tensor,
    Updated as Updated,
    per_tensor as per_tensor,
)
