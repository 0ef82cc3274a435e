from .._core import (
    AbstractLossTask as AbstractLossTask,
    AbstractTask as AbstractTask,
    AbstractTaskFamily as AbstractTaskFamily,
    Mixture as Mixture,
    SingleTask as SingleTask,
)
from ._classes import AbstractClasses as AbstractClasses
from ._classification import ClassificationTask as ClassificationTask
from ._dataset import Dataset as Dataset
from ._diffusion import Diffusion as Diffusion, DiffusionTask as DiffusionTask
from ._digits import DigitsConv as DigitsConv, DigitsMLP as DigitsMLP
from ._few_shot import FewShot as FewShot, FewShotTask as FewShotTask
from ._functions import Functions as Functions, FunctionsTask as FunctionsTask
from ._generated import Generated as Generated, TaskDistribution as TaskDistribution, generate as generate
from ._glyphs import Glyphs as Glyphs
from ._labelled_classes import LabelledClasses as LabelledClasses, labelled_classes as labelled_classes
from ._mnist1d import Mnist1D as Mnist1D
from ._networks import (
    AbstractNetwork as AbstractNetwork,
    ConvolutionalNetwork as ConvolutionalNetwork,
    DenseNetwork as DenseNetwork,
)
from ._normalized import Normalized as Normalized, NormalizedTask as NormalizedTask
from ._quadratics import Quadratics as Quadratics, QuadraticsTask as QuadraticsTask
from ._rastrigin import Rastrigin as Rastrigin, RastriginTask as RastriginTask
from ._reduced_batch import ReducedBatch as ReducedBatch
from ._regression import AbstractRegressionTask as AbstractRegressionTask
from ._reparametrized import Reparametrized as Reparametrized, ReparametrizedTask as ReparametrizedTask
from ._rescaled import Rescaled as Rescaled, RescaledTask as RescaledTask
from ._rosenbrock import Rosenbrock as Rosenbrock, RosenbrockTask as RosenbrockTask
from ._sequence_networks import AttentionNetwork as AttentionNetwork, RecurrentNetwork as RecurrentNetwork
from ._sinusoids import Sinusoids as Sinusoids, SinusoidsTask as SinusoidsTask
from ._sources import (
    AbstractSource as AbstractSource,
    LabelledSource as LabelledSource,
    SelfSource as SelfSource,
    TextSource as TextSource,
    WaveSource as WaveSource,
)
from ._sparse_coding import SparseCoding as SparseCoding, SparseCodingTask as SparseCodingTask
from ._supervised import SupervisedTask as SupervisedTask
from ._teacher_student import TeacherStudent as TeacherStudent, TeacherStudentTask as TeacherStudentTask
