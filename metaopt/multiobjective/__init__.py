from ._cagrad import CAGrad as CAGrad
from ._chebyshev import Chebyshev as Chebyshev
from ._distances import (
    crowding as crowding,
    igd_plus as igd_plus,
    riesz_energy as riesz_energy,
    spread as spread,
)
from ._epsilon_constraint import EpsilonConstraint as EpsilonConstraint
from ._gramian import Gradients as Gradients
from ._hypervolume import hypervolume as hypervolume
from ._imtl_g import IMTLG as IMTLG
from ._mgda import MGDA as MGDA
from ._nash_mtl import NashMTL as NashMTL
from ._nondominated import nondominated as nondominated
from ._pareto_front import FRONT_RESULTS as FRONT_RESULTS, Front as Front, pareto_front as pareto_front
from ._pareto_set import ParetoSet as ParetoSet, learn_pareto_set as learn_pareto_set
from ._pbi import PBI as PBI
from ._pcgrad import PCGrad as PCGrad
from ._preference_conditioned import PreferenceConditioned as PreferenceConditioned
from ._preferences import das_dennis as das_dennis, preferences as preferences
from ._preferred import (
    Preferred as Preferred,
    PreferredPopulation as PreferredPopulation,
    PreferredTask as PreferredTask,
)
from ._problem import Problem as Problem
from ._random_weighting import RandomWeighting as RandomWeighting
from ._shared_curvature import SharedCurvature as SharedCurvature
from ._test_problems import make_problem as make_problem
from ._upgrad import UPGrad as UPGrad
from ._weighted_sum import WeightedSum as WeightedSum
from .base import AbstractCombiner as AbstractCombiner, CombinerState as CombinerState
