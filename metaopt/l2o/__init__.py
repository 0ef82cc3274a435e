from ._adafac_mlp import AdafacMLP as AdafacMLP
from ._controller import Controller as Controller
from ._clocks import HorizonClock as HorizonClock, TanhClock as TanhClock
from ._plain_head import PlainHead as PlainHead
from .base import AbstractClock as AbstractClock, AbstractHead as AbstractHead, Prepared as Prepared
