from ._policy import Policy as Policy
from ._spaces import Actor as Actor, Box as Box, Discrete as Discrete, Dueling as Dueling, Network as Network
from ._train import TrainResult as TrainResult, train as train
from .agents._dqn import DQN as DQN
from .agents._exploration import (
    AbstractExploration as AbstractExploration,
    Boltzmann as Boltzmann,
    EpsilonGreedy as EpsilonGreedy,
)
from .agents._ppo import PPO as PPO
from .agents._reinforce import REINFORCE as REINFORCE
from .agents._replay import Replay as Replay
from .agents._rollout import Running as Running, Steps as Steps, returns as returns, run as run, start as start
from .base import (
    AbstractAgent as AbstractAgent,
    AbstractControl as AbstractControl,
    AbstractEnvironment as AbstractEnvironment,
    AbstractReward as AbstractReward,
    Timestep as Timestep,
)
from .environments._controls import (
    Choice as Choice,
    LogRate as LogRate,
    RateAndMomentum as RateAndMomentum,
    RateMultipliers as RateMultipliers,
    Restart as Restart,
)
from .environments._function_approximation import FunctionApproximation as FunctionApproximation, sigmoid as sigmoid
from .environments._gymnax import Gymnax as Gymnax
from .environments._luby import Luby as Luby
from .environments._optimization import OptimizationEnvironment as OptimizationEnvironment
from .environments._progress import Progress as Progress
from .environments._rewards import (
    Cautious as Cautious,
    ConvergenceSpeed as ConvergenceSpeed,
    FinalReward as FinalReward,
    Regret as Regret,
    TimeToTarget as TimeToTarget,
)
from .environments._toy_sgd import ToySGD as ToySGD
