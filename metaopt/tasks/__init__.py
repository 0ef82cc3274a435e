from .._core import (
    AbstractLossTask as AbstractLossTask,
    AbstractTask as AbstractTask,
    AbstractTaskFamily as AbstractTaskFamily,
    SingleTask as SingleTask,
)
from ._classification import ClassificationTask as ClassificationTask
from ._dataset import Dataset as Dataset
from ._digits import DigitsConv as DigitsConv, DigitsMLP as DigitsMLP
from ._mnist1d import Mnist1D as Mnist1D
from ._networks import (
    AbstractNetwork as AbstractNetwork,
    ConvolutionalNetwork as ConvolutionalNetwork,
    DenseNetwork as DenseNetwork,
)
from ._normalized import Normalized as Normalized, NormalizedTask as NormalizedTask
from ._quadratics import Quadratics as Quadratics, QuadraticsTask as QuadraticsTask
from ._rastrigin import Rastrigin as Rastrigin, RastriginTask as RastriginTask
from ._rosenbrock import Rosenbrock as Rosenbrock, RosenbrockTask as RosenbrockTask
from ._sinusoids import Sinusoids as Sinusoids, SinusoidsTask as SinusoidsTask
from ._sparse_coding import SparseCoding as SparseCoding, SparseCodingTask as SparseCodingTask
from ._teacher_student import TeacherStudent as TeacherStudent, TeacherStudentTask as TeacherStudentTask
