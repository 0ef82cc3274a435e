from ._algorithm import (
    AbstractAlgorithm as AbstractAlgorithm,
    AbstractPlanner as AbstractPlanner,
    with_horizon as with_horizon,
)
from ._check import Report as Report, check as check
from ._drivers import fixed_point as fixed_point, minimize as minimize
from ._explain import CheckError as CheckError
from ._learner import (
    AbstractStart as AbstractStart,
    Inner as Inner,
    Learner as Learner,
    Trajectory as Trajectory,
    inner_step as inner_step,
    unroll as unroll,
)
from ._losses import AbstractLossReader as AbstractLossReader, MissingValueWarning as MissingValueWarning
from ._optax import (
    MissingHorizonWarning as MissingHorizonWarning,
    Optax as Optax,
    from_optax as from_optax,
    to_optax as to_optax,
)
from ._results import RESULTS as RESULTS, Solution as Solution
from ._task import (
    AbstractLossTask as AbstractLossTask,
    AbstractTask as AbstractTask,
    AbstractTaskFamily as AbstractTaskFamily,
    Mixture as Mixture,
    SingleTask as SingleTask,
)
from ._typechecked import typechecked as typechecked
from ._wrappers import ClipByGlobalNorm as ClipByGlobalNorm, SkipNonFinite as SkipNonFinite, WeightDecay as WeightDecay
from .arrays._gradients import value_and_grad as value_and_grad
from .files._files import CheckpointError as CheckpointError
from .files._save import load as load, read_header as read_header, save as save
