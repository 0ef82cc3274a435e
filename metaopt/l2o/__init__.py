from .base import AbstractClock as AbstractClock, AbstractHead as AbstractHead, AbstractUnfolded as AbstractUnfolded
from .guards._baseline_guarded import BaselineGuarded as BaselineGuarded
from .guards._loss_guarded import LossGuarded as LossGuarded
from .guards._safeguarded import Safeguarded as Safeguarded
from .parts._adam_head import AdamHead as AdamHead
from .parts._clocks import HorizonClock as HorizonClock, TanhClock as TanhClock
from .parts._linear_head import LinearHead as LinearHead
from .parts._plain_head import PlainHead as PlainHead
from .parts._progress import Progress as Progress
from .published._pretrained import pretrained as pretrained
from .published._published import load_published as load_published, save_published as save_published
from .rules._adafac_mlp import AdafacMLP as AdafacMLP
from .rules._celo import Celo as Celo
from .rules._celo2 import Celo2 as Celo2
from .rules._celo_adam import CeloAdam as CeloAdam
from .rules._controller import Controller as Controller
from .rules._learnable_adam import LearnableAdam as LearnableAdam
from .rules._learnable_sgd import LearnableSGD as LearnableSGD
from .rules._lstm import LSTM as LSTM
from .rules._mlp import MLP as MLP
from .rules._nn_adam import NNAdam as NNAdam
from .rules._preconditioned_descent import PreconditionedDescent as PreconditionedDescent
from .rules._recurrent_controller import RecurrentController as RecurrentController
from .rules._rnnprop import RNNProp as RNNProp
from .rules._velo import VeLO as VeLO
from .sparse._alista import ALISTA as ALISTA
from .sparse._fista import FISTA as FISTA
from .sparse._ista import ISTA as ISTA
from .sparse._lista import LISTA as LISTA
from .sparse._lista_cp import LISTACP as LISTACP
