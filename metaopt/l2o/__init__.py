from ._adafac_mlp import AdafacMLP as AdafacMLP
from ._adam_head import AdamHead as AdamHead
from ._alista import ALISTA as ALISTA
from ._clocks import HorizonClock as HorizonClock, TanhClock as TanhClock
from ._controller import Controller as Controller
from ._fista import FISTA as FISTA
from ._ista import ISTA as ISTA
from ._learnable_adam import LearnableAdam as LearnableAdam
from ._learnable_sgd import LearnableSGD as LearnableSGD
from ._linear_head import LinearHead as LinearHead
from ._lista import LISTA as LISTA
from ._lista_cp import LISTACP as LISTACP
from ._lstm import LSTM as LSTM
from ._mlp import MLP as MLP
from ._nn_adam import NNAdam as NNAdam
from ._plain_head import PlainHead as PlainHead
from ._rnnprop import RNNProp as RNNProp
from .base import AbstractClock as AbstractClock, AbstractHead as AbstractHead, AbstractUnfolded as AbstractUnfolded
