"""Mistakes in parts that others write, said in a sentence that names the part."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest

import metaopt
from metaopt import CheckError
from metaopt.meta import (
    PES,
    AbstractObjective,
    ConstantHorizon,
    FinalLoss,
    MeanLoss,
    MetaProblem,
    Unrolled,
    meta_train,
)


# Not annotated, as user code often is not: a type checker would find some of these before.
class Bowl(metaopt.AbstractLossTask):
    slip: str = eqx.field(static=True, default="")

    def init(self, *, key):
        return jnp.ones(3)

    def loss(self, params, *, key):
        value = jnp.sum(params**2)
        return {
            "vector": lambda: params,
            "tuple": lambda: (value, 1),
            "integer": lambda: value.astype(int),
            "nothing": lambda: None,
            "branch": lambda: value if value > 0 else -value,
        }.get(self.slip, lambda: value)()

    def measure(self, params, *, key):
        return params if self.slip == "measure" else jnp.sum(params**2)


class Rule(metaopt.AbstractAlgorithm):
    rate: jax.Array
    slip: str = eqx.field(static=True, default="")

    def init(self, params, *, key=None):
        return {"m": jnp.zeros(3)}

    def step(self, state, params, grads, *, value=None):
        new = params - self.rate * grads
        return {
            "single": lambda: new,
            "swapped": lambda: (new, state),
            "dtype": lambda: (state, new.astype(jnp.float16)),
            "shape": lambda: (state, new[None]),
            "structure": lambda: ((state, state), new),
            "state": lambda: ({"m": state["m"].astype(int)}, new),
            "number": lambda: (state, params - float(self.rate) * grads),
        }.get(self.slip, lambda: (state, new))()


class Objective(AbstractObjective):
    slip: str = eqx.field(static=True, default="")
    queries: bool = eqx.field(static=True, default=False)

    def init(self):
        return ()

    def contribute(self, state, observation):
        return {
            "single": lambda: observation.value,
            "vector": lambda: (state, observation.value[None]),
            "branch": lambda: (state, observation.value if observation.value > 0 else 0.0),
        }[self.slip]()


TASKS = {
    "vector": r"`Bowl.loss` must be one number, but it has the shape \(3,\). Take the mean or the sum",
    "tuple": r"`Bowl.loss` must be one number, but it is a tuple of 2",
    "integer": r"`Bowl.loss` must be a real number, but its dtype is int32",
    "nothing": r"`Bowl.loss` must be one number, but it is `None`. Is there a `return` missing\?",
    "branch": r"`Bowl.loss` needs a number that is not known while the program is compiled: a Python `if`",
    "measure": r"`Bowl.measure` must be one number, but it has the shape \(3,\)",
}
RULES = {
    "single": r"`Rule.step` must return a pair, the new state and the new parameters, but it returns an array",
    "swapped": r"`Rule.step` returns the parameters first",
    "dtype": r"`Rule.step` changes its parameters from float32\[3\] to float16\[3\]",
    "shape": r"`Rule.step` changes its parameters from float32\[3\] to float32\[1, 3\]",
    "structure": r"`Rule.step` changes the structure of its state",
    "state": r"`Rule.step` changes its state\['m'\] from float32\[3\] to int32\[3\]",
    "number": r"`Rule.step` needs a number that is not known",
}
OBJECTIVES = {
    "single": r"`contribute` of the objective must return its state and a number, but it returns an array",
    "vector": r"The contribution of the objective must be one number, but it has the shape \(1,\)",
    "branch": r"`contribute` of the objective needs a number that is not known",
}


def _train(task: str = "", rule: str = "", objective: Any = None, estimator: Any = None) -> None:
    objective = objective or (FinalLoss(queries=True) if task == "measure" else MeanLoss())
    meta_train(
        metaopt.Learner(Rule(jnp.asarray(0.1), rule)),
        MetaProblem(metaopt.SingleTask(Bowl(task)), objective, ConstantHorizon(4), tasks=2),
        estimator=estimator or PES(0.1, 2),
        outer=metaopt.from_optax(optax.sgd, learning_rate=0.1),
        steps=1,
        key=jr.key(0),
        progress=False,
    )


@pytest.mark.parametrize("slip", TASKS)
def test_slips_in_tasks(slip):
    with pytest.raises(CheckError, match=TASKS[slip]):
        _train(task=slip)
    with pytest.raises(CheckError, match=TASKS[slip]):
        metaopt.check(Rule(jnp.asarray(0.1)), task=Bowl(slip))
    if slip != "measure":
        with pytest.raises(CheckError, match=TASKS[slip]):
            metaopt.unroll(metaopt.Learner(Rule(jnp.asarray(0.1))), Bowl(slip), steps=2, key=jr.key(0))


@pytest.mark.parametrize("slip", RULES)
def test_slips_in_rules(slip):
    with pytest.raises(CheckError, match=RULES[slip]):
        _train(rule=slip)
    if slip == "number":
        return  # outside of meta-training that number is known
    with pytest.raises(CheckError, match=RULES[slip]):
        metaopt.unroll(metaopt.Learner(Rule(jnp.asarray(0.1), slip)), Bowl(), steps=2, key=jr.key(0))
    with pytest.raises(CheckError, match=r"`algorithm.step`"):
        metaopt.check(Rule(jnp.asarray(0.1), slip), task=Bowl())


@pytest.mark.parametrize("slip", OBJECTIVES)
def test_slips_in_objectives(slip):
    with pytest.raises(CheckError, match=OBJECTIVES[slip]):
        _train(objective=Objective(slip))


def test_estimators_that_differentiate_say_the_same():
    for slips, text in ((dict(task="measure"), TASKS["measure"]), (dict(rule="dtype"), RULES["dtype"])):
        with pytest.raises(CheckError, match=text):
            _train(estimator=Unrolled(), **slips)


def test_an_error_of_the_part_itself_goes_on():
    class Broken(Rule):
        def step(self, state, params, grads, *, value=None):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="^mine"):
        metaopt.unroll(metaopt.Learner(Broken(jnp.asarray(0.1))), Bowl(), steps=2, key=jr.key(0))


def test_a_validation_of_vectors_is_no_mean_of_them():
    from metaopt.meta.training._train import validate

    with pytest.raises(CheckError, match=r"`Bowl.measure` must be one number"):
        validate(
            metaopt.Learner(Rule(jnp.asarray(0.1))),
            metaopt.SingleTask(Bowl("measure")),
            steps=2,
            tasks=2,
            key=jr.key(0),
        )
