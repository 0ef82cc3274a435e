"""Runs that take a moment."""

from typing import Any

from metaopt.spec import dumps


def small(**changes: Any) -> dict[str, Any]:
    """Learn the rate of gradient descent on bowls of two dimensions; about a second with compiling."""
    bowls = {"name": "quadratics", "dimension": 2, "condition": 4.0}
    spec = {
        "description": "Learn a rate.",
        "steps": 20,
        "learner": {"algorithm": {"name": "sgd", "learning_rate": 0.01}},
        "problem": {
            "tasks": 2,
            "family": bowls,
            "objective": "mean_loss",
            "horizon": {"name": "constant", "longest": 10},
        },
        "estimator": {"name": "pes", "std": 0.001, "truncation": 5},
        "outer": {"name": "clip_by_global_norm", "inner": {"name": "adam", "learning_rate": 0.001}},
        "validation": bowls,
        "validation_tasks": 2,
    }
    return spec | changes


def evaluated(**changes: Any) -> dict[str, Any]:
    """The same with a comparison at the end."""
    family = {"name": "quadratics", "dimension": 2, "condition": 4.0}
    evaluation = {"family": family, "steps": 5, "tasks": 2, "seeds": 2, "baselines": ["sgd"]}
    return small(steps=2, evaluation=evaluation | changes)


def text(spec: dict[str, Any]) -> str:
    return dumps(spec)
