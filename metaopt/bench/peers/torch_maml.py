"""How much processor time one meta-step of MAML takes in PyTorch, with TorchOpt and with `torch.func`.

Runs in an environment of its own and prints one JSON object. The problem is that of Finn et al. (2017): sine waves, a
network 1-40-40-1 with rectifiers, five steps of gradient descent with rate 0.01 on ten points, second derivatives, the
loss on ten other points, 25 tasks, Adam outside.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torchopt


def batch(options: argparse.Namespace) -> tuple[torch.Tensor, ...]:
    """Inputs and targets of the support and of the query points of fresh tasks."""
    amplitude = torch.empty(options.tasks, 1, 1).uniform_(0.1, 5.0)
    phase = torch.empty(options.tasks, 1, 1).uniform_(0.0, math.pi)
    inputs = torch.empty(options.tasks, 2 * options.shots, 1).uniform_(-5.0, 5.0)
    targets = amplitude * torch.sin(inputs - phase)
    k = options.shots
    return inputs[:, :k], targets[:, :k], inputs[:, k:], targets[:, k:]


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(1, 40), torch.nn.ReLU(), torch.nn.Linear(40, 40), torch.nn.ReLU(), torch.nn.Linear(40, 1)
    )


def with_torchopt(options: argparse.Namespace) -> Callable[[], float]:
    """A meta-step as in TorchOpt's few-shot example: `MetaSGD`, and one task after the other."""
    net = network()
    outer = torch.optim.Adam(net.parameters(), lr=1e-3)
    inner = torchopt.MetaSGD(net, lr=options.rate)
    loss = torch.nn.functional.mse_loss

    def step() -> float:
        inputs, targets, queries, answers = batch(options)
        outer.zero_grad()
        start = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
        inner_start = torchopt.extract_state_dict(inner, by="reference")
        losses = []
        for i in range(options.tasks):
            for _ in range(options.steps):
                inner.step(loss(net(inputs[i]), targets[i]))
            losses.append(loss(net(queries[i]), answers[i]))
            torchopt.recover_state_dict(net, start)
            torchopt.recover_state_dict(inner, inner_start)
        total = torch.mean(torch.stack(losses))
        total.backward()
        outer.step()
        return total.item()

    return step


def with_torch_func(options: argparse.Namespace) -> Callable[[], float]:
    """A meta-step with `torch.func`: `grad` inside, `vmap` over the tasks."""
    net = network()
    params = dict(net.named_parameters())
    outer = torch.optim.Adam(params.values(), lr=1e-3)

    def loss(params: dict[str, torch.Tensor], inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.mean(torch.square(torch.func.functional_call(net, params, (inputs,)) - targets))

    def adapted_loss(params: dict[str, torch.Tensor], *examples: torch.Tensor) -> torch.Tensor:
        inputs, targets, queries, answers = examples
        for _ in range(options.steps):
            grads = torch.func.grad(loss)(params, inputs, targets)
            params = {name: params[name] - options.rate * grads[name] for name in params}
        return loss(params, queries, answers)

    def step() -> float:
        outer.zero_grad()
        losses = torch.func.vmap(adapted_loss, in_dims=(None, 0, 0, 0, 0))(params, *batch(options))
        total = losses.mean()
        total.backward()
        outer.step()
        return total.item()

    return step


def measure(step: Callable[[], float], count: int, blocks: int) -> dict[str, Any]:
    """The median over blocks of the processor's and the clock's milliseconds per meta-step."""
    for _ in range(3):
        value = step()
    cpu, wall = [], []
    for _ in range(blocks):
        w, c = time.perf_counter(), time.process_time()
        for _ in range(count):
            value = step()
        wall.append(1e3 * (time.perf_counter() - w) / count)
        cpu.append(1e3 * (time.process_time() - c) / count)
    if not math.isfinite(value):
        raise FloatingPointError("the meta-loss is not finite")
    return {"cpu_ms": statistics.median(cpu), "wall_ms": statistics.median(wall), "blocks": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=25)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--count", type=int, default=20, help="meta-steps in a timed block")
    parser.add_argument("--blocks", type=int, default=5)
    options = parser.parse_args()
    # One thread: tensors are small, and more threads only cost processor time.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {
        "torchopt": measure(with_torchopt(options), options.count, options.blocks),
        "torch_func": measure(with_torch_func(options), options.count, options.blocks),
        "torch_version": torch.__version__,
        "torchopt_version": torchopt.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
