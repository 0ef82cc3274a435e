from ._adafac_mlp import AdafacMLP as AdafacMLP
from ._adam_head import AdamHead as AdamHead
from ._alista import ALISTA as ALISTA
from ._baseline_guarded import BaselineGuarded as BaselineGuarded
from ._celo import Celo as Celo
from ._celo2 import Celo2 as Celo2
from ._celo_adam import CeloAdam as CeloAdam
from ._clocks import HorizonClock as HorizonClock, TanhClock as TanhClock
from ._controller import Controller as Controller
from ._fista import FISTA as FISTA
from ._ista import ISTA as ISTA
from ._learnable_adam import LearnableAdam as LearnableAdam
from ._learnable_sgd import LearnableSGD as LearnableSGD
from ._linear_head import LinearHead as LinearHead
from ._lista import LISTA as LISTA
from ._lista_cp import LISTACP as LISTACP
from ._loss_guarded import LossGuarded as LossGuarded
from ._lstm import LSTM as LSTM
from ._mlp import MLP as MLP
from ._nn_adam import NNAdam as NNAdam
from ._plain_head import PlainHead as PlainHead
from ._preconditioned_descent import PreconditionedDescent as PreconditionedDescent
from ._pretrained import pretrained as pretrained
from ._progress import Progress as Progress
from ._published import load_published as load_published, save_published as save_published
from ._recurrent_controller import RecurrentController as RecurrentController
from ._rnnprop import RNNProp as RNNProp
from ._safeguarded import Safeguarded as Safeguarded
from ._velo import VeLO as VeLO
from .base import AbstractClock as AbstractClock, AbstractHead as AbstractHead, AbstractUnfolded as AbstractUnfolded
