"""The one table of everything that has a name, and the doors that need it: `build` and `load`."""

import os
import re
import warnings
from collections.abc import Iterable
from typing import Any, TypeVar, overload

import optax
from jax.sharding import Mesh

from . import _core
from ._core import AbstractAlgorithm, AbstractTask, AbstractTaskFamily, Learner, Mixture, Optax, from_optax
from ._core._entry_points import BACKENDS, offered
from ._core.arrays._numbers import DECAY, NONNEGATIVE
from ._core.files._save import load_made
from .meta.base import AbstractEstimator, AbstractHorizon, AbstractObjective
from .spec import Registry, SpecError, build as _build
from .spec._error import closest, listed, shown


T = TypeVar("T")


def sgd(learning_rate: float = 0.1) -> Optax:
    """Gradient descent."""
    NONNEGATIVE.check(learning_rate=learning_rate)
    return from_optax(optax.sgd, learning_rate=learning_rate)


def momentum(learning_rate: float = 0.1, decay: float = 0.9, nesterov: bool = False) -> Optax:
    """Gradient descent with heavy-ball or Nesterov momentum."""
    NONNEGATIVE.check(learning_rate=learning_rate)
    DECAY.check(decay=decay)
    return from_optax(optax.sgd, learning_rate=learning_rate, momentum=decay, nesterov=nesterov)


def adam(learning_rate: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optax:
    """Adam (Kingma and Ba, 2015)."""
    NONNEGATIVE.check(learning_rate=learning_rate, eps=eps)
    DECAY.check(b1=b1, b2=b2)
    return from_optax(optax.adam, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)


def adamw(learning_rate: float = 1e-3, b1: float = 0.9, b2: float = 0.999, weight_decay: float = 1e-4) -> Optax:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    NONNEGATIVE.check(learning_rate=learning_rate, weight_decay=weight_decay)
    DECAY.check(b1=b1, b2=b2)
    return from_optax(optax.adamw, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


_HERE = "metaopt.registry"


def discovered_backends() -> dict[str, str]:
    """What installed distributions offer as backends. A name that no spec could hold is left out, with a warning."""
    found = {name: entry.value for name, entry in offered(BACKENDS).items()}
    for name in [name for name in found if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or name == "xla"]:
        warnings.warn(f"The backend {name!r}, {found.pop(name)!r}, is left out: it needs another name.", stacklevel=2)
    return found


DEFAULT: Registry = Registry.of(
    {
        AbstractAlgorithm: {
            "sgd": f"{_HERE}:sgd",
            "momentum": f"{_HERE}:momentum",
            "adam": f"{_HERE}:adam",
            "adamw": f"{_HERE}:adamw",
            "clip_by_global_norm": "metaopt._core:ClipByGlobalNorm",
            "skip_non_finite": "metaopt._core:SkipNonFinite",
            "weight_decay": "metaopt._core:WeightDecay",
            "cosine": "metaopt.schedules:Cosine",
            "linear_decay": "metaopt.schedules:Linear",
            "exponential": "metaopt.schedules:Exponential",
            "cyclic_restarts": "metaopt.schedules:CyclicRestarts",
            "plateau": "metaopt.schedules:Plateau",
            "bold_driver": "metaopt.schedules:BoldDriver",
            "polyak": "metaopt.schedules:Polyak",
            "backtracking": "metaopt.schedules:Backtracking",
            "noise_aware": "metaopt.schedules:NoiseAware",
            "hypergradient": "metaopt.schedules:Hypergradient",
            "learned_schedule": "metaopt.schedules:LearnedSchedule",
            "policy": "metaopt.rl:Policy",
            "controller": "metaopt.l2o:Controller",
            "recurrent_controller": "metaopt.l2o:RecurrentController",
            "preconditioned_descent": "metaopt.l2o:PreconditionedDescent",
            "learnable_sgd": "metaopt.l2o:LearnableSGD",
            "learnable_adam": "metaopt.l2o:LearnableAdam",
            "nn_adam": "metaopt.l2o:NNAdam",
            "mlp": "metaopt.l2o:MLP",
            "adafac_mlp": "metaopt.l2o:AdafacMLP",
            "lstm": "metaopt.l2o:LSTM",
            "rnn_prop": "metaopt.l2o:RNNProp",
            "celo": "metaopt.l2o:Celo",
            "celo_adam": "metaopt.l2o:CeloAdam",
            "celo2": "metaopt.l2o:Celo2",
            "velo": "metaopt.l2o:VeLO",
            "safeguarded": "metaopt.l2o:Safeguarded",
            "loss_guarded": "metaopt.l2o:LossGuarded",
            "baseline_guarded": "metaopt.l2o:BaselineGuarded",
            "decay_to_start": "metaopt.meta:DecayToStart",
            "proximal": "metaopt.meta:Proximal",
            "only_parts": "metaopt.fewshot:OnlyParts",
            "per_parameter_sgd": "metaopt.fewshot:PerParameterSGD",
            "ewc": "metaopt.fewshot:EWC",
            "weighted_sum": "metaopt.multiobjective:WeightedSum",
            "chebyshev": "metaopt.multiobjective:Chebyshev",
            "pbi": "metaopt.multiobjective:PBI",
            "epsilon_constraint": "metaopt.multiobjective:EpsilonConstraint",
            "mgda": "metaopt.multiobjective:MGDA",
            "pcgrad": "metaopt.multiobjective:PCGrad",
            "cagrad": "metaopt.multiobjective:CAGrad",
            "nash_mtl": "metaopt.multiobjective:NashMTL",
            "upgrad": "metaopt.multiobjective:UPGrad",
            "imtl_g": "metaopt.multiobjective:IMTLG",
            "random_weighting": "metaopt.multiobjective:RandomWeighting",
            "preference_conditioned": "metaopt.multiobjective:PreferenceConditioned",
            "shared_curvature": "metaopt.multiobjective:SharedCurvature",
        },
        "metaopt.fewshot.warm_starts._predictor:AbstractPredictor": {
            "nearest_neighbor": "metaopt.fewshot:NearestNeighbor",
            "kernel_ridge": "metaopt.fewshot:KernelRidge",
            "gaussian_process": "metaopt.fewshot:GaussianProcess",
        },
        "metaopt.l2o.base:AbstractHead": {
            "plain": "metaopt.l2o:PlainHead",
            "linear": "metaopt.l2o:LinearHead",
            "adam": "metaopt.l2o:AdamHead",
        },
        "metaopt.l2o.base:AbstractClock": {
            "tanh": "metaopt.l2o:TanhClock",
            "horizon": "metaopt.l2o:HorizonClock",
        },
        "metaopt.backend.base:AbstractBackend": {
            "xla": "metaopt.backend:XLA",
            **discovered_backends(),
        },
        AbstractTaskFamily: {
            "quadratics": "metaopt.tasks:Quadratics",
            "rosenbrock": "metaopt.tasks:Rosenbrock",
            "rastrigin": "metaopt.tasks:Rastrigin",
            "teacher_student": "metaopt.tasks:TeacherStudent",
            "sinusoids": "metaopt.tasks:Sinusoids",
            "few_shot": "metaopt.tasks:FewShot",
            "functions": "metaopt.tasks:Functions",
            "digits_mlp": "metaopt.tasks:DigitsMLP",
            "digits_conv": "metaopt.tasks:DigitsConv",
            "mnist_1d": "metaopt.tasks:Mnist1D",
            "generated": "metaopt.tasks:Generated",
            "supervised": "metaopt.tasks:Supervised",
            "sparse_coding": "metaopt.tasks:SparseCoding",
            "poisson_sources": "metaopt.physics:PoissonSources",
            "helmholtz_wave_numbers": "metaopt.physics:HelmholtzWaveNumbers",
            "burgers_viscosities": "metaopt.physics:BurgersViscosities",
            "preferred": "metaopt.multiobjective:Preferred",
            "normalized": "metaopt.tasks:Normalized",
            "reparametrized": "metaopt.tasks:Reparametrized",
            "rescaled": "metaopt.tasks:Rescaled",
            "reduced_batch": "metaopt.tasks:ReducedBatch",
        },
        "metaopt.tasks.data._classes:AbstractClasses": {
            "glyphs": "metaopt.tasks:Glyphs",
            "labelled_classes": "metaopt.tasks:labelled_classes",
        },
        "metaopt.scf.base:AbstractAccelerator": {
            "roothaan": "metaopt.scf:Roothaan",
            "mixing": "metaopt.scf:Mixing",
            "optimal_damping": "metaopt.scf:OptimalDamping",
            "anderson": "metaopt.scf:Anderson",
            "cdiis": "metaopt.scf:CDIIS",
            "ediis": "metaopt.scf:EDIIS",
            "adiis": "metaopt.scf:ADIIS",
            "switching": "metaopt.scf:Switching",
            "second_order": "metaopt.scf:SecondOrder",
            "surrogate": "metaopt.scf:Surrogate",
            "learned_accelerator": "metaopt.scf:LearnedAccelerator",
            "level_shift": "metaopt.scf:LevelShift",
            "damping": "metaopt.scf:Damping",
            "steered": "metaopt.scf:Steered",
            "restarted": "metaopt.scf:Restarted",
            "guarded": "metaopt.scf:Guarded",
        },
        AbstractTask: {
            "test_problem": "metaopt.multiobjective:make_problem",
            "pinn": "metaopt.physics:PINN",
        },
        "metaopt.physics.base:AbstractDomain": {
            "box": "metaopt.physics:Box",
            "interval": "metaopt.physics:interval",
            "rectangle": "metaopt.physics:rectangle",
            "rectangular": "metaopt.physics:rectangle",
            "disk": "metaopt.physics:Disk",
            "polygon": "metaopt.physics:Polygon",
            "l_shape": "metaopt.physics:l_shape",
            "union": "metaopt.physics:Union",
            "difference": "metaopt.physics:Difference",
            "space_time": "metaopt.physics:SpaceTime",
        },
        "metaopt.physics.base:AbstractSampler": {
            "uniform": "metaopt.physics:Uniform",
            "halton": "metaopt.physics:Halton",
            "latin_hypercube": "metaopt.physics:LatinHypercube",
        },
        "metaopt.physics.base:AbstractResidual": {
            "poisson": "metaopt.physics:Poisson",
            "laplace": "metaopt.physics:Laplace",
            "helmholtz": "metaopt.physics:Helmholtz",
            "darcy": "metaopt.physics:Darcy",
            "eigenproblem": "metaopt.physics:Eigenproblem",
            "heat": "metaopt.physics:Heat",
            "wave": "metaopt.physics:Wave",
            "advection_diffusion": "metaopt.physics:AdvectionDiffusion",
            "burgers": "metaopt.physics:Burgers",
            "allen_cahn": "metaopt.physics:AllenCahn",
            "schrodinger": "metaopt.physics:Schrodinger",
            "navier_stokes": "metaopt.physics:NavierStokes",
        },
        "metaopt.physics.base:AbstractTerm": {
            "dirichlet": "metaopt.physics:Dirichlet",
            "neumann": "metaopt.physics:Neumann",
            "robin": "metaopt.physics:Robin",
            "periodic": "metaopt.physics:PeriodicTerm",
            "initial": "metaopt.physics:Initial",
            "data": "metaopt.physics:Data",
            "normalization": "metaopt.physics:Normalization",
        },
        "metaopt.physics.base:AbstractField": {
            "perceptron": "metaopt.physics:Perceptron",
            "hard_boundary": "metaopt.physics:HardBoundary",
            "rescaled_inputs": "metaopt.physics:Rescaled",
        },
        "metaopt.physics.base:AbstractBalancing": {
            "grad_norm": "metaopt.physics:GradNorm",
            "ntk": "metaopt.physics:NTK",
            "relobralo": "metaopt.physics:ReLoBRaLo",
            "soft_adapt": "metaopt.physics:SoftAdapt",
            "self_adaptive": "metaopt.physics:SelfAdaptive",
            "causal": "metaopt.physics:Causal",
        },
        "metaopt.physics.base:AbstractResampling": {
            "rad": "metaopt.physics:RAD",
            "rar_d": "metaopt.physics:RARD",
        },
        "metaopt.physics.base:AbstractSolver": {
            "first_order": "metaopt.physics:FirstOrder",
            "combined": "metaopt.physics:Combined",
            "lbfgs": "metaopt.physics:LBFGS",
            "gauss_newton": "metaopt.physics:GaussNewton",
            "staged": "metaopt.physics:Staged",
            "balanced": "metaopt.physics:Balanced",
        },
        "metaopt.rl.base:AbstractEnvironment": {
            "sigmoid": "metaopt.rl:sigmoid",
            "function_approximation": "metaopt.rl:FunctionApproximation",
            "luby": "metaopt.rl:Luby",
            "toy_sgd": "metaopt.rl:ToySGD",
            "optimization": "metaopt.rl:OptimizationEnvironment",
        },
        "metaopt.rl.base:AbstractAgent": {
            "dqn": "metaopt.rl:DQN",
            "reinforce": "metaopt.rl:REINFORCE",
            "ppo": "metaopt.rl:PPO",
        },
        "metaopt.rl.base:AbstractReward": {
            "convergence_speed": "metaopt.rl:ConvergenceSpeed",
            "cautious": "metaopt.rl:Cautious",
            "final_reward": "metaopt.rl:FinalReward",
            "regret": "metaopt.rl:Regret",
            "time_to_target": "metaopt.rl:TimeToTarget",
        },
        "metaopt.rl.base:AbstractControl": {
            "rate_multipliers": "metaopt.rl:RateMultipliers",
            "log_rate": "metaopt.rl:LogRate",
            "rate_and_momentum": "metaopt.rl:RateAndMomentum",
            "choice": "metaopt.rl:Choice",
            "restart": "metaopt.rl:Restart",
        },
        "metaopt.rl.agents._exploration:AbstractExploration": {
            "epsilon_greedy": "metaopt.rl:EpsilonGreedy",
            "boltzmann": "metaopt.rl:Boltzmann",
        },
        "metaopt.tasks.networks._networks:AbstractNetwork": {
            "dense": "metaopt.tasks:DenseNetwork",
            "convolutional": "metaopt.tasks:ConvolutionalNetwork",
            "recurrent": "metaopt.tasks:RecurrentNetwork",
            "attention": "metaopt.tasks:AttentionNetwork",
            "vision_transformer": "metaopt.tasks:VisionTransformer",
            "mlp_mixer": "metaopt.tasks:MLPMixer",
            "residual": "metaopt.tasks:ResidualNetwork",
        },
        Mixture: {
            "mixture": "metaopt._core:Mixture",
            "generate": "metaopt.tasks:generate",
        },
        AbstractObjective: {
            "mean_loss": "metaopt.meta:MeanLoss",
            "mean_log_loss": "metaopt.meta:MeanLogLoss",
            "final_loss": "metaopt.meta:FinalLoss",
            "best_loss": "metaopt.meta:BestLoss",
            "time_to_target": "metaopt.meta:TimeToTarget",
        },
        AbstractHorizon: {
            "constant": "metaopt.meta:ConstantHorizon",
            "log_uniform": "metaopt.meta:LogUniformHorizon",
        },
        AbstractEstimator: {
            "unrolled": "metaopt.meta:Unrolled",
            "truncated_unroll": "metaopt.meta:TruncatedUnroll",
            "es": "metaopt.meta:ES",
            "pes": "metaopt.meta:PES",
            "nres": "metaopt.meta:NRES",
            "es_single": "metaopt.meta:ESSingle",
            "implicit": "metaopt.meta:Implicit",
            "displacement": "metaopt.meta:Displacement",
            "task_parallel": "metaopt.meta:TaskParallel",
            "mixed": "metaopt.meta:Mixed",
        },
        "metaopt.fewshot.base:AbstractMethod": {
            "maml": "metaopt.fewshot:MAML",
            "fomaml": "metaopt.fewshot:FOMAML",
            "anil": "metaopt.fewshot:ANIL",
            "meta_sgd": "metaopt.fewshot:MetaSGD",
            "imaml": "metaopt.fewshot:IMAML",
            "reptile": "metaopt.fewshot:Reptile",
            "trajectory_meta": "metaopt.fewshot:TrajectoryMeta",
            "probabilistic_maml": "metaopt.fewshot:ProbabilisticMAML",
            "proto_maml": "metaopt.fewshot:ProtoMAML",
        },
        Mesh: {
            "mesh": "metaopt.sharding:make_mesh",
        },
    }
)
"""All of metaopt by name. Add your own with `DEFAULT.register(kind, name, factory)`, which makes a new table."""


def build(spec: Any, kind: type[T], *, registry: Registry = DEFAULT) -> T:
    """Build an object from a nested specification.

    ```python
    import metaopt

    learner = metaopt.build({"algorithm": {"name": "adafac_mlp", "hidden_size": 16}}, metaopt.Learner)
    ```

    **Arguments:**

    - `spec`: a table with `name` and keyword arguments wherever a registry entry stands; a bare name for one without
        arguments; an object that is built already.
    - `kind`: what to build.
    - `registry`: the table of names.

    **Returns:**

    An instance of `kind`.

    **Raises:**

    - [`metaopt.spec.SpecError`][]: saying where, what was given, what was wanted, and what was probably meant.
    """
    return _build(spec, kind, registry=registry)


@overload
def load(path: str | os.PathLike[str], like: T, *, registry: Registry = DEFAULT) -> T: ...


@overload
def load(path: str | os.PathLike[str], like: None = None, *, registry: Registry = DEFAULT) -> Learner: ...


def load(path: str | os.PathLike[str], like: Any = None, *, registry: Registry = DEFAULT) -> Any:
    """Load what [`metaopt.save`][] has written.

    **Arguments:**

    - `path`: the file.
    - `like`: a pytree of the structure that was saved. May be omitted for a learner that was saved with its spec.
    - `registry`: the table of names for that spec.

    **Returns:**

    The loaded pytree.

    **Raises:**

    - [`metaopt.CheckpointError`][]: if the file is missing, damaged or does not fit, or has no spec and `like` is
        missing. The spec of a file is compared with its arrays before any other is made.
    - [`metaopt.spec.SpecError`][]: if the file is whole, but its spec is wrong, or names what `registry` does not have.
    """
    if like is None:
        return load_made(path, lambda spec: build(spec, Learner, registry=registry))
    return _core.load(path, like)


def unknown(what: str, name: str, known: Iterable[str]) -> SpecError:
    """The error for a name that does not exist: it lists those that do, and suggests the closest."""
    names = list(known)
    return SpecError(
        "", f"there is no {what} {shown(name)}; there are {listed(names)}.", suggestion=closest(name, names)
    )
