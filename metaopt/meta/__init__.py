from ._curriculum import (
    CurriculumResult as CurriculumResult,
    Stage as Stage,
    train_curriculum as train_curriculum,
)
from ._decay_to_start import DecayToStart as DecayToStart
from ._displacement import Displacement as Displacement
from ._es import ES as ES
from ._es_single import ESSingle as ESSingle
from ._history import History as History, read_history as read_history
from ._horizons import ConstantHorizon as ConstantHorizon, LogUniformHorizon as LogUniformHorizon
from ._implicit import Implicit as Implicit
from ._mixed import Mixed as Mixed
from ._nres import NRES as NRES
from ._objectives import (
    BestLoss as BestLoss,
    FinalLoss as FinalLoss,
    MeanLogLoss as MeanLogLoss,
    MeanLoss as MeanLoss,
    TimeToTarget as TimeToTarget,
)
from ._partition import only as only
from ._pes import PES as PES
from ._proximal import Proximal as Proximal
from ._task_parallel import TaskParallel as TaskParallel
from ._train import (
    MetaResult as MetaResult,
    MetaState as MetaState,
    meta_step as meta_step,
    meta_train as meta_train,
    validate as validate,
)
from ._train_unfolded import train_unfolded as train_unfolded
from ._truncated_unroll import TruncatedUnroll as TruncatedUnroll
from ._unrolled import Unrolled as Unrolled
from ._warm_start import warm_start as warm_start
from .base import (
    AbstractEstimator as AbstractEstimator,
    AbstractHorizon as AbstractHorizon,
    AbstractObjective as AbstractObjective,
    MetaGradient as MetaGradient,
    MetaProblem as MetaProblem,
    Observation as Observation,
)
