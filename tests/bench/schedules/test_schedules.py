"""The benchmark of schedules, on less."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from metaopt import Learner, from_optax, unroll
from metaopt.bench.schedules import _schedules
from metaopt.tasks import Quadratics


_FAMILY = Quadratics(3)
_ADAM = from_optax(optax.adam, learning_rate=0.05)


def test_programs_in_parts_do_what_an_inner_loop_does() -> None:
    found = _schedules.final_losses(_ADAM, _FAMILY, steps=30, tasks=2, key=jr.key(3))

    @jax.jit
    def one(draw_key: jax.Array, run_key: jax.Array) -> jax.Array:
        task = _FAMILY.sample(key=draw_key)
        return task.loss(unroll(Learner(_ADAM), task, steps=30, key=run_key).params, key=run_key)

    draw_key, run_key, _ = jr.split(jr.key(3), 3)
    wanted = [one(*keys) for keys in zip(jr.split(draw_key, 2), jr.split(run_key, 2), strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_line_search_shortens_steps_that_are_too_long() -> None:
    wild = from_optax(optax.sgd, learning_rate=10.0)
    options = {"steps": 20, "tasks": 4, "key": jr.key(0)}
    plain = _schedules.final_losses(wild, _FAMILY, **options)
    searched = _schedules.final_losses(wild, _FAMILY, **options, searched=True)
    start = _schedules.final_losses(from_optax(optax.sgd, learning_rate=0.0), _FAMILY, **options)
    assert bool(jnp.all(searched < start)) and bool(jnp.all(plain > start))


def test_rows_are_ratios_to_the_best_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_schedules, "_families", lambda: {"quadratics": _FAMILY})
    monkeypatch.setattr(_schedules, "_untuned", lambda: {"bad": _schedules._adam(1e-6), "good": _schedules._adam(0.1)})
    monkeypatch.setattr(_schedules, "_RATES", np.asarray([1e-4, 0.1]))
    monkeypatch.setattr(_schedules, "_STEPS", 40)
    monkeypatch.setattr(_schedules, "_TASKS", 2)
    monkeypatch.setattr(_schedules, "on_one_core", lambda *_: (2.0, 2.5, 0.25))
    report = _schedules.run()
    bad, good, chosen = report.rows
    assert bad["quadratics"] > 1.05 and good["quadratics"] == pytest.approx(1)
    assert chosen["quadratics"] == "0.1"
    claims = {claim.id: claim.value for claim in report.claims}
    assert claims == {"tasks_within_5pct": 1, "monitor_overhead_percent": 25}
    assert "good" in report.claims[0].note
