from ._anil import ANIL as ANIL
from ._calibration import Calibration as Calibration, calibration as calibration
from ._continual import ContinualResult as ContinualResult, continual as continual
from ._ensemble import (
    Ensemble as Ensemble,
    EnsembleFamily as EnsembleFamily,
    EnsembleTask as EnsembleTask,
    GaussianStart as GaussianStart,
    Mixing as Mixing,
)
from ._ewc import EWC as EWC, importance as importance
from ._fomaml import FOMAML as FOMAML
from ._gaussian_process import GaussianProcess as GaussianProcess
from ._imaml import IMAML as IMAML
from ._kernel_ridge import KernelRidge as KernelRidge
from ._maml import MAML as MAML
from ._meta_learn import adapt as adapt, meta_learn as meta_learn
from ._meta_sgd import MetaSGD as MetaSGD
from ._nearest_neighbor import NearestNeighbor as NearestNeighbor
from ._only_parts import OnlyParts as OnlyParts
from ._per_parameter_sgd import PerParameterSGD as PerParameterSGD
from ._predictor import AbstractPredictor as AbstractPredictor, Weights as Weights
from ._probabilistic_maml import ProbabilisticMAML as ProbabilisticMAML
from ._proto_maml import ProtoMAML as ProtoMAML, PrototypeStart as PrototypeStart
from ._reptile import Reptile as Reptile
from ._reservoir import Reservoir as Reservoir
from ._trajectory_meta import TrajectoryMeta as TrajectoryMeta
from ._transfer import transfer as transfer
from ._warm_start import (
    Prediction as Prediction,
    Start as Start,
    WarmStart as WarmStart,
    keep_better as keep_better,
)
from .base import AbstractMethod as AbstractMethod, Setup as Setup
