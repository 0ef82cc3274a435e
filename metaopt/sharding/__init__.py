from ._algorithm import shard_algorithm as shard_algorithm
from ._checkpoints import CheckpointFolder as CheckpointFolder
from ._mesh import make_mesh as make_mesh
from ._processes import initialize as initialize
from ._state import shard_state as shard_state
