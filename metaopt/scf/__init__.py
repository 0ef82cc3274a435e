from .accelerators._adiis import ADIIS as ADIIS
from .accelerators._anderson import Anderson as Anderson
from .accelerators._cdiis import CDIIS as CDIIS
from .accelerators._damping import Damping as Damping
from .accelerators._ediis import EDIIS as EDIIS
from .accelerators._guarded import Guarded as Guarded
from .accelerators._level_shift import LevelShift as LevelShift
from .accelerators._mixing import Mixing as Mixing
from .accelerators._optimal_damping import OptimalDamping as OptimalDamping
from .accelerators._restarted import Restarted as Restarted
from .accelerators._roothaan import Roothaan as Roothaan
from .accelerators._second_order import SecondOrder as SecondOrder
from .accelerators._surrogate import Surrogate as Surrogate
from .accelerators._switching import Switching as Switching
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
from .drivers._results import RESULTS as RESULTS, Solution as Solution
from .drivers._solve import solve as solve
from .drivers._stability import Followed as Followed, Stability as Stability, follow as follow, stability as stability
from .drivers._unroll import Trajectory as Trajectory, unroll as unroll
from .guesses._extrapolation import Extrapolation as Extrapolation
from .learned._learned_accelerator import LearnedAccelerator as LearnedAccelerator
from .learned._learned_guess import LearnedGuess as LearnedGuess
from .learned._learned_response import LearnedResponse as LearnedResponse
from .learned._steered import Steered as Steered
from .systems._checks import check_pairing as check_pairing
from .systems._density_functionals import B3LYP as B3LYP, LDA as LDA, PBE as PBE, Grid as Grid
from .systems._geometry import Geometry as Geometry
from .systems._interactions import (
    DensityFitted as DensityFitted,
    PairPacked as PairPacked,
    check_size as check_size,
)
from .systems._operator import Operator as Operator
from .systems._padding import pad as pad
from .systems._system import System as System, stack as stack
from .systems._tasks import (
    Accelerated as Accelerated,
    Seen as Seen,
    SelfConsistentField as SelfConsistentField,
    SelfConsistentFields as SelfConsistentFields,
)
