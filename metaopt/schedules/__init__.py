from ._backtracking import Backtracking as Backtracking
from ._bold_driver import BoldDriver as BoldDriver
from ._cosine import Cosine as Cosine
from ._cyclic_restarts import CyclicRestarts as CyclicRestarts
from ._exponential import Exponential as Exponential
from ._hypergradient import Hypergradient as Hypergradient
from ._learned_schedule import LearnedSchedule as LearnedSchedule
from ._line_search import LineSearch as LineSearch
from ._linear import Linear as Linear
from ._noise_aware import NoiseAware as NoiseAware
from ._plateau import Plateau as Plateau
from ._polyak import Polyak as Polyak
from .base import AbstractSchedule as AbstractSchedule, ScheduleState as ScheduleState
