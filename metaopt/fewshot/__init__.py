from ._anil import ANIL as ANIL
from ._fomaml import FOMAML as FOMAML
from ._imaml import IMAML as IMAML
from ._maml import MAML as MAML
from ._meta_learn import adapt as adapt, meta_learn as meta_learn
from ._meta_sgd import MetaSGD as MetaSGD
from ._only_parts import OnlyParts as OnlyParts
from ._per_parameter_sgd import PerParameterSGD as PerParameterSGD
from ._reptile import Reptile as Reptile
from ._trajectory_meta import TrajectoryMeta as TrajectoryMeta
from .base import AbstractMethod as AbstractMethod, Setup as Setup
