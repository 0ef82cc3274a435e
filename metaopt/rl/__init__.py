from ._controls import (
    Choice as Choice,
    LogRate as LogRate,
    RateAndMomentum as RateAndMomentum,
    RateMultipliers as RateMultipliers,
    Restart as Restart,
)
from ._dqn import DQN as DQN
from ._exploration import (
    AbstractExploration as AbstractExploration,
    Boltzmann as Boltzmann,
    EpsilonGreedy as EpsilonGreedy,
)
from ._function_approximation import FunctionApproximation as FunctionApproximation, sigmoid as sigmoid
from ._gymnax import Gymnax as Gymnax
from ._luby import Luby as Luby
from ._optimization import OptimizationEnvironment as OptimizationEnvironment
from ._policy import Policy as Policy
from ._ppo import PPO as PPO
from ._progress import Progress as Progress
from ._reinforce import REINFORCE as REINFORCE
from ._replay import Replay as Replay
from ._rewards import (
    Cautious as Cautious,
    ConvergenceSpeed as ConvergenceSpeed,
    FinalReward as FinalReward,
    Regret as Regret,
    TimeToTarget as TimeToTarget,
)
from ._rollout import Running as Running, Steps as Steps, returns as returns, run as run, start as start
from ._spaces import Actor as Actor, Box as Box, Discrete as Discrete, Dueling as Dueling, Network as Network
from ._toy_sgd import ToySGD as ToySGD
from ._train import TrainResult as TrainResult, train as train
from .base import (
    AbstractAgent as AbstractAgent,
    AbstractControl as AbstractControl,
    AbstractEnvironment as AbstractEnvironment,
    AbstractReward as AbstractReward,
    Timestep as Timestep,
)
