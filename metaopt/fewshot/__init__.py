from ._meta_learn import adapt as adapt, meta_learn as meta_learn
from .base import AbstractMethod as AbstractMethod, Setup as Setup
from .continual_learning._continual import ContinualResult as ContinualResult, continual as continual
from .continual_learning._ewc import EWC as EWC, importance as importance
from .continual_learning._reservoir import Reservoir as Reservoir
from .inner._only_parts import OnlyParts as OnlyParts
from .inner._per_parameter_sgd import PerParameterSGD as PerParameterSGD
from .methods._anil import ANIL as ANIL
from .methods._fomaml import FOMAML as FOMAML
from .methods._imaml import IMAML as IMAML
from .methods._maml import MAML as MAML
from .methods._meta_sgd import MetaSGD as MetaSGD
from .methods._proto_maml import ProtoMAML as ProtoMAML, PrototypeStart as PrototypeStart
from .methods._reptile import Reptile as Reptile
from .methods._trajectory_meta import TrajectoryMeta as TrajectoryMeta
from .probabilistic._calibration import Calibration as Calibration, calibration as calibration
from .probabilistic._ensemble import (
    Ensemble as Ensemble,
    EnsembleFamily as EnsembleFamily,
    EnsembleTask as EnsembleTask,
    GaussianStart as GaussianStart,
    Mixing as Mixing,
)
from .probabilistic._probabilistic_maml import ProbabilisticMAML as ProbabilisticMAML
from .warm_starts._gaussian_process import GaussianProcess as GaussianProcess
from .warm_starts._kernel_ridge import KernelRidge as KernelRidge
from .warm_starts._nearest_neighbor import NearestNeighbor as NearestNeighbor
from .warm_starts._predictor import AbstractPredictor as AbstractPredictor, Weights as Weights
from .warm_starts._transfer import transfer as transfer
from .warm_starts._warm_start import (
    Prediction as Prediction,
    Start as Start,
    WarmStart as WarmStart,
    keep_better as keep_better,
)
