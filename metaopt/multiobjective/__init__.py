from ._preferences import das_dennis as das_dennis, preferences as preferences
from .base import AbstractCombiner as AbstractCombiner, CombinerState as CombinerState
from .combiners._cagrad import CAGrad as CAGrad
from .combiners._chebyshev import Chebyshev as Chebyshev
from .combiners._epsilon_constraint import EpsilonConstraint as EpsilonConstraint
from .combiners._gramian import Gradients as Gradients
from .combiners._imtl_g import IMTLG as IMTLG
from .combiners._mgda import MGDA as MGDA
from .combiners._nash_mtl import NashMTL as NashMTL
from .combiners._pbi import PBI as PBI
from .combiners._pcgrad import PCGrad as PCGrad
from .combiners._random_weighting import RandomWeighting as RandomWeighting
from .combiners._shared_curvature import SharedCurvature as SharedCurvature
from .combiners._upgrad import UPGrad as UPGrad
from .combiners._weighted_sum import WeightedSum as WeightedSum
from .fronts._distances import (
    crowding as crowding,
    igd_plus as igd_plus,
    riesz_energy as riesz_energy,
    spread as spread,
)
from .fronts._hypervolume import hypervolume as hypervolume
from .fronts._nondominated import nondominated as nondominated
from .fronts._pareto_front import FRONT_RESULTS as FRONT_RESULTS, Front as Front, pareto_front as pareto_front
from .fronts._problem import Problem as Problem
from .fronts._test_problems import make_problem as make_problem
from .learned._pareto_set import ParetoSet as ParetoSet, learn_pareto_set as learn_pareto_set
from .learned._preference_conditioned import PreferenceConditioned as PreferenceConditioned
from .learned._preferred import (
    Preferred as Preferred,
    PreferredPopulation as PreferredPopulation,
    PreferredTask as PreferredTask,
)
