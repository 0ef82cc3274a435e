"""Steps per second of DACBench's function approximation in one dimension, with random actions.

Usage: dacbench_throughput.py STEPS
"""

import json
import random
import sys
import time

import dacbench
from dacbench.benchmarks import FunctionApproximationBenchmark


def main(steps):
    environment = FunctionApproximationBenchmark().get_benchmark(1)
    environment.reset()
    actions = [random.Random(0).randrange(3) for _ in range(steps)]
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        for action in actions:
            _, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                environment.reset()
        seconds.append(time.process_time() - begun)
    rates = sorted(steps / s for s in seconds)
    print(json.dumps({"steps_per_second": rates[len(rates) // 2], "best": rates[-1], "version": dacbench.__version__}))


main(int(sys.argv[1]))
