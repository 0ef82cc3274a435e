from ._continual import ContinualResult as ContinualResult, continual as continual
from ._ewc import EWC as EWC, importance as importance
from ._gaussian_process import GaussianProcess as GaussianProcess
from ._kernel_ridge import KernelRidge as KernelRidge
from ._nearest_neighbor import NearestNeighbor as NearestNeighbor
from ._predictor import AbstractPredictor as AbstractPredictor, Weights as Weights
from ._reservoir import Reservoir as Reservoir
from ._transfer import transfer as transfer
from ._warm_start import (
    Prediction as Prediction,
    Start as Start,
    WarmStart as WarmStart,
    keep_better as keep_better,
)
