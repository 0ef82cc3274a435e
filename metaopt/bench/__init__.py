from ._table import BENCHMARKS as BENCHMARKS
from .base import Benchmark as Benchmark, Budget as Budget, Claim as Claim, Report as Report, Rival as Rival
