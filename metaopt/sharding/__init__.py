from ._mesh import make_mesh as make_mesh
from ._state import shard_state as shard_state
