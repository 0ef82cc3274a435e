from ._check_estimator import EstimatorReport as EstimatorReport, check_estimator as check_estimator
from ._horizons import ConstantHorizon as ConstantHorizon, LogUniformHorizon as LogUniformHorizon
from ._objectives import (
    BestLoss as BestLoss,
    FinalLoss as FinalLoss,
    MeanLogLoss as MeanLogLoss,
    MeanLoss as MeanLoss,
    TimeToTarget as TimeToTarget,
)
from .base import (
    AbstractEstimator as AbstractEstimator,
    AbstractHorizon as AbstractHorizon,
    AbstractObjective as AbstractObjective,
    AbstractSpreadEstimator as AbstractSpreadEstimator,
    MetaGradient as MetaGradient,
    MetaProblem as MetaProblem,
    Observation as Observation,
)
from .estimators._displacement import Displacement as Displacement
from .estimators._es import ES as ES
from .estimators._es_single import ESSingle as ESSingle
from .estimators._implicit import Implicit as Implicit
from .estimators._mixed import Mixed as Mixed
from .estimators._nres import NRES as NRES
from .estimators._partition import only as only
from .estimators._pes import PES as PES
from .estimators._task_parallel import TaskParallel as TaskParallel
from .estimators._truncated_unroll import TruncatedUnroll as TruncatedUnroll
from .estimators._unrolled import Unrolled as Unrolled
from .regularizers._decay_to_start import DecayToStart as DecayToStart
from .regularizers._proximal import Proximal as Proximal
from .training._curriculum import (
    CurriculumResult as CurriculumResult,
    Stage as Stage,
    train_curriculum as train_curriculum,
)
from .training._history import History as History, read_history as read_history
from .training._rotation import Rotation as Rotation, Turn as Turn, rotation_turns as rotation_turns
from .training._train import (
    MetaResult as MetaResult,
    MetaState as MetaState,
    meta_step as meta_step,
    meta_train as meta_train,
    validate as validate,
)
from .training._train_unfolded import train_unfolded as train_unfolded
from .training._warm_start import warm_start as warm_start
