from ._cagrad import CAGrad as CAGrad
from ._chebyshev import Chebyshev as Chebyshev
from ._epsilon_constraint import EpsilonConstraint as EpsilonConstraint
from ._gramian import Gradients as Gradients
from ._imtl_g import IMTLG as IMTLG
from ._mgda import MGDA as MGDA
from ._nash_mtl import NashMTL as NashMTL
from ._pbi import PBI as PBI
from ._pcgrad import PCGrad as PCGrad
from ._preferences import das_dennis as das_dennis, preferences as preferences
from ._random_weighting import RandomWeighting as RandomWeighting
from ._upgrad import UPGrad as UPGrad
from ._weighted_sum import WeightedSum as WeightedSum
from .base import AbstractCombiner as AbstractCombiner, CombinerState as CombinerState
from ._distances import (
    crowding as crowding,
    igd_plus as igd_plus,
    riesz_energy as riesz_energy,
    spread as spread,
)
from ._hypervolume import hypervolume as hypervolume
from ._nondominated import nondominated as nondominated
