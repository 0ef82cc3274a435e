from ._table import BENCHMARKS as BENCHMARKS
from .base import Benchmark as Benchmark, Claim as Claim, Report as Report
