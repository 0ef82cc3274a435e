from ._adiis import ADIIS as ADIIS
from ._anderson import Anderson as Anderson
from ._cdiis import CDIIS as CDIIS
from ._damping import Damping as Damping
from ._density_functionals import B3LYP as B3LYP, LDA as LDA, PBE as PBE, Grid as Grid
from ._ediis import EDIIS as EDIIS
from ._extrapolation import Extrapolation as Extrapolation
from ._geometry import Geometry as Geometry
from ._guarded import Guarded as Guarded
from ._interactions import (
    DensityFitted as DensityFitted,
    PairPacked as PairPacked,
    check_size as check_size,
)
from ._learned_accelerator import LearnedAccelerator as LearnedAccelerator
from ._learned_guess import LearnedGuess as LearnedGuess
from ._learned_response import LearnedResponse as LearnedResponse
from ._level_shift import LevelShift as LevelShift
from ._mixing import Mixing as Mixing
from ._operator import Operator as Operator
from ._optimal_damping import OptimalDamping as OptimalDamping
from ._padding import pad as pad
from ._restarted import Restarted as Restarted
from ._results import RESULTS as RESULTS, Solution as Solution
from ._roothaan import Roothaan as Roothaan
from ._second_order import SecondOrder as SecondOrder
from ._solve import solve as solve
from ._stability import Followed as Followed, Stability as Stability, follow as follow, stability as stability
from ._steered import Steered as Steered
from ._surrogate import Surrogate as Surrogate
from ._switching import Switching as Switching
from ._system import System as System, check_pairing as check_pairing, stack as stack
from ._tasks import (
    Accelerated as Accelerated,
    Seen as Seen,
    SelfConsistentField as SelfConsistentField,
    SelfConsistentFields as SelfConsistentFields,
)
from ._unroll import Trajectory as Trajectory, unroll as unroll
from .base import (
    AbstractAccelerator as AbstractAccelerator,
    AbstractFunctional as AbstractFunctional,
    AbstractGuess as AbstractGuess,
    AbstractIntegrals as AbstractIntegrals,
    AbstractInteraction as AbstractInteraction,
    AbstractOperator as AbstractOperator,
    FockBuilds as FockBuilds,
    Geometries as Geometries,
    Matrices as Matrices,
    Molecule as Molecule,
    Signal as Signal,
)
