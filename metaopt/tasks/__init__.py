from .._core import (
    AbstractLossTask as AbstractLossTask,
    AbstractTask as AbstractTask,
    AbstractTaskFamily as AbstractTaskFamily,
    Mixture as Mixture,
    SingleTask as SingleTask,
)
from .data._classes import AbstractClasses as AbstractClasses
from .data._dataset import Dataset as Dataset
from .data._glyphs import Glyphs as Glyphs
from .data._sources import (
    AbstractSource as AbstractSource,
    LabelledSource as LabelledSource,
    SelfSource as SelfSource,
    TextSource as TextSource,
    WaveSource as WaveSource,
)
from .families._bucket import Bucket as Bucket, BucketTask as BucketTask
from .families._classification import ClassificationTask as ClassificationTask
from .families._diffusion import Diffusion as Diffusion, DiffusionTask as DiffusionTask
from .families._digits import DigitsConv as DigitsConv, DigitsMLP as DigitsMLP
from .families._few_shot import FewShot as FewShot, FewShotTask as FewShotTask
from .families._functions import Functions as Functions, FunctionsTask as FunctionsTask
from .families._generated import Generated as Generated
from .families._labelled_classes import LabelledClasses as LabelledClasses, labelled_classes as labelled_classes
from .families._mnist1d import Mnist1D as Mnist1D
from .families._quadratics import Quadratics as Quadratics, QuadraticsTask as QuadraticsTask
from .families._rastrigin import Rastrigin as Rastrigin, RastriginTask as RastriginTask
from .families._regression import AbstractRegressionTask as AbstractRegressionTask
from .families._rosenbrock import Rosenbrock as Rosenbrock, RosenbrockTask as RosenbrockTask
from .families._sinusoids import Sinusoids as Sinusoids, SinusoidsTask as SinusoidsTask
from .families._sparse_coding import SparseCoding as SparseCoding, SparseCodingTask as SparseCodingTask
from .families._supervised import SupervisedTask as SupervisedTask
from .families._supervised_family import Supervised as Supervised
from .families._task_distribution import TaskDistribution as TaskDistribution, generate as generate
from .families._teacher_student import TeacherStudent as TeacherStudent, TeacherStudentTask as TeacherStudentTask
from .networks._networks import (
    AbstractNetwork as AbstractNetwork,
    ConvolutionalNetwork as ConvolutionalNetwork,
    DenseNetwork as DenseNetwork,
)
from .networks._sequence_networks import AttentionNetwork as AttentionNetwork, RecurrentNetwork as RecurrentNetwork
from .networks._vision_networks import (
    MLPMixer as MLPMixer,
    ResidualNetwork as ResidualNetwork,
    VisionTransformer as VisionTransformer,
)
from .wrappers._normalized import Normalized as Normalized, NormalizedTask as NormalizedTask
from .wrappers._reduced_batch import ReducedBatch as ReducedBatch
from .wrappers._reparametrized import Reparametrized as Reparametrized, ReparametrizedTask as ReparametrizedTask
from .wrappers._rescaled import Rescaled as Rescaled, RescaledTask as RescaledTask
