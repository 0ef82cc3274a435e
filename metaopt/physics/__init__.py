from ._functions import Constant as Constant, Function as Function
from ._objective import Objective as Objective
from ._pinn import PINN as PINN, AsObjective as AsObjective, PerTerm as PerTerm
from ._plots import plot_solution as plot_solution
from .balancing._balanced import Balanced as Balanced
from .balancing._balancing import (
    NTK as NTK,
    Causal as Causal,
    GradNorm as GradNorm,
    ReLoBRaLo as ReLoBRaLo,
    SelfAdaptive as SelfAdaptive,
    SoftAdapt as SoftAdapt,
)
from .balancing._combined import Combined as Combined
from .base import (
    AbstractBalancing as AbstractBalancing,
    AbstractDomain as AbstractDomain,
    AbstractField as AbstractField,
    AbstractResampling as AbstractResampling,
    AbstractResidual as AbstractResidual,
    AbstractSampler as AbstractSampler,
    AbstractSolver as AbstractSolver,
    AbstractTerm as AbstractTerm,
    Evaluate as Evaluate,
    Points as Points,
)
from .conditions._boundary import Dirichlet as Dirichlet, Neumann as Neumann, Robin as Robin
from .conditions._data import Data as Data
from .conditions._initial import Initial as Initial
from .conditions._interior import Interior as Interior
from .conditions._normalization import Normalization as Normalization
from .conditions._periodic import PeriodicTerm as PeriodicTerm
from .domains._composed import Difference as Difference, SpaceTime as SpaceTime, Union as Union
from .domains._domains import (
    Box as Box,
    Disk as Disk,
    Polygon as Polygon,
    interval as interval,
    l_shape as l_shape,
    rectangle as rectangle,
)
from .equations._families import (
    BurgersViscosities as BurgersViscosities,
    HelmholtzWaveNumbers as HelmholtzWaveNumbers,
    PoissonSources as PoissonSources,
)
from .equations._flow import NavierStokes as NavierStokes
from .equations._steady import (
    Darcy as Darcy,
    Eigenproblem as Eigenproblem,
    Equation as Equation,
    Helmholtz as Helmholtz,
    Laplace as Laplace,
    Poisson as Poisson,
)
from .equations._transient import (
    AdvectionDiffusion as AdvectionDiffusion,
    AllenCahn as AllenCahn,
    Burgers as Burgers,
    Heat as Heat,
    Schrodinger as Schrodinger,
    Wave as Wave,
)
from .fields._fields import (
    Differentiated as Differentiated,
    FourierFeatures as FourierFeatures,
    HardBoundary as HardBoundary,
    Perceptron as Perceptron,
    Periodic as Periodic,
    Rescaled as Rescaled,
    fourier_features as fourier_features,
)
from .fields._jets import Jet as Jet, laplacian as laplacian
from .sampling._adaptive import RAD as RAD, RARD as RARD
from .sampling._samplers import Halton as Halton, LatinHypercube as LatinHypercube, Uniform as Uniform
from .solvers._first_order import FirstOrder as FirstOrder
from .solvers._gauss_newton import GaussNewton as GaussNewton
from .solvers._lbfgs import LBFGS as LBFGS
from .solvers._staged import Staged as Staged
