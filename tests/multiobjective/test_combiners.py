"""Weights of combiners, against conditions of optimality and independent NumPy loops."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.multiobjective import (
    IMTLG,
    MGDA,
    PBI,
    AbstractCombiner,
    CAGrad,
    Chebyshev,
    EpsilonConstraint,
    Gradients,
    NashMTL,
    PCGrad,
    RandomWeighting,
    UPGrad,
    WeightedSum,
)
from metaopt.multiobjective.combiners._pcgrad import operate
from tests._cases import slow


SIZES = [3, pytest.param(16, marks=pytest.mark.slow)]
KINDS = ["plain", "zero", "duplicate", "opposite", "dependent", "nothing"]


def _sgd(rate: float = 1.0) -> Any:
    return metaopt.build({"name": "sgd", "learning_rate": rate}, metaopt.AbstractAlgorithm)


@eqx.filter_jit
def _weigh(rule: AbstractCombiner, gramian: Any, values: Any = None) -> Any:
    return rule.weigh(gramian, values, key=jr.key(0))


def _gramians(m: int) -> list[np.ndarray]:
    """Random Gramians divided by their traces, degenerate ones included."""
    found = []
    for seed, kind in enumerate(KINDS):
        generator = np.random.default_rng(100 * m + seed)
        matrix = generator.normal(size=(m, 2 * m)) * np.exp(generator.normal(size=(m, 1)))
        if kind == "zero":
            matrix[0] = 0
        if kind in ("duplicate", "opposite"):
            matrix[-1] = matrix[0] if kind == "duplicate" else -matrix[0]
        if kind == "dependent":
            matrix = matrix[:, :1] * matrix[:1] + 0.5 * matrix[:, 1:2] * matrix[1:2]
        if kind == "nothing":
            matrix = 0 * matrix
        product = matrix @ matrix.T
        found.append(product / (np.trace(product) or 1))
    return found


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.usefixtures("x64")
def test_mgda_is_the_shortest_convex_combination(m: int) -> None:
    for gramian in _gramians(m):
        w = np.asarray(_weigh(MGDA(_sgd()), jnp.asarray(gramian)))
        assert w.min() >= 0
        np.testing.assert_allclose(w.sum(), 1, rtol=1e-12)
        slope = gramian @ w
        # No corner of the simplex lies downhill.
        assert slope.min() >= w @ slope - 1e-10


def test_two_gradients_have_a_closed_form() -> None:
    generator = np.random.default_rng(0)
    for _ in range(10):
        a, b = generator.normal(size=(2, 3))
        share = np.clip(b @ (b - a) / ((a - b) @ (a - b)), 0, 1)
        matrix = np.stack([a, b])
        w = _weigh(MGDA(_sgd()), jnp.asarray(matrix @ matrix.T, jnp.float32))
        np.testing.assert_allclose(w, [share, 1 - share], atol=1e-4)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.usefixtures("x64")
def test_upgrad_projects_each_gradient_onto_the_dual_cone(m: int) -> None:
    for gramian in _gramians(m):
        ridged = gramian + 1e-4 * np.eye(m)
        total = np.zeros(m)
        for i in range(m):
            preference = np.eye(m)[i]
            v = np.asarray(_weigh(UPGrad(_sgd(), jnp.asarray(preference)), jnp.asarray(gramian)))
            assert (v - preference).min() >= -1e-12
            slope = ridged @ v
            assert slope.min() >= -1e-10
            np.testing.assert_allclose(slope @ (v - preference), 0, atol=1e-10)
            total += v / m
        np.testing.assert_allclose(_weigh(UPGrad(_sgd()), jnp.asarray(gramian)), total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.usefixtures("x64")
def test_cagrad_solves_its_dual(m: int) -> None:
    for gramian in _gramians(m):
        found = np.asarray(_weigh(CAGrad(_sgd(), 0.4), jnp.asarray(gramian)))
        mean = np.full(m, 1 / m)
        size = 0.4 * np.sqrt(mean @ gramian @ mean)
        if not found.any():
            shortest = np.asarray(_weigh(MGDA(_sgd()), jnp.asarray(gramian)))
            assert shortest @ gramian @ shortest < 2e-8
            continue
        w = found - mean
        w = w / w.sum()
        assert w.min() >= -1e-9
        slope = gramian @ mean + size * gramian @ w / np.sqrt(w @ gramian @ w)
        assert slope.min() >= w @ slope - 1e-8


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.usefixtures("x64")
def test_nash_mtl_is_the_bargaining_solution(m: int) -> None:
    for kind, gramian in zip(KINDS, _gramians(m), strict=True):
        alpha = np.asarray(_weigh(NashMTL(_sgd(), jnp.inf), jnp.asarray(gramian)))
        assert np.isfinite(alpha).all() and alpha.min() >= 0
        if kind in ("plain", "duplicate"):
            product = alpha * (gramian @ alpha)
            np.testing.assert_allclose(product, product.mean(), rtol=1e-6)
            np.testing.assert_allclose(product.mean(), 1, rtol=1e-6)
        limited = np.asarray(_weigh(NashMTL(_sgd(), 0.1), jnp.asarray(gramian)))
        assert limited @ gramian @ limited <= 0.01 * (1 + 1e-6)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.usefixtures("x64")
def test_imtl_g_has_equal_projections(m: int) -> None:
    for kind, gramian in zip(KINDS, _gramians(m), strict=True):
        w = np.asarray(_weigh(IMTLG(_sgd()), jnp.asarray(gramian)))
        assert np.isfinite(w).all()
        if kind in ("plain", "duplicate"):
            projections = gramian @ w / np.sqrt(np.diagonal(gramian))
            np.testing.assert_allclose(projections, projections.mean(), rtol=1e-6)
            np.testing.assert_allclose(w.sum(), 1, rtol=1e-9)
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_array_equal(_weigh(IMTLG(_sgd()), jnp.asarray(opposite)), 0)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.usefixtures("x64")
def test_pcgrad_is_a_loop(m: int) -> None:
    operate_jit = jax.jit(operate)
    for seed, gramian in enumerate(_gramians(m)):
        generator = np.random.default_rng(seed)
        orders = np.stack([generator.permutation(m) for _ in range(m)])
        total = np.zeros(m)
        for i in range(m):
            w = np.eye(m)[i]
            for j in orders[i]:
                if j != i and gramian[j] @ w < 0:
                    w[j] -= gramian[j] @ w / gramian[j, j]
            total += w
        np.testing.assert_allclose(operate_jit(gramian, orders), total, rtol=1e-10, atol=1e-12)


def test_scalarizations_step_on_their_own_gradient() -> None:
    """The weights are the derivatives of the scalarized values."""
    values, gramian = jnp.asarray([1.0, 3.0, 2.0]), jnp.eye(3)
    weights = (0.5, 0.2, 0.3)
    found = [
        _weigh(rule, gramian, values)
        for rule in (
            WeightedSum(_sgd(), weights),
            Chebyshev(_sgd(), weights),
            Chebyshev(_sgd(), weights, augmentation=0.1),
            Chebyshev(_sgd(), weights, ideal=(0.0, 2.5, 0.0)),
            Chebyshev(_sgd(), weights, smoothing=0.1),
            EpsilonConstraint(_sgd(), (0.0, 2.5, 2.5), penalty=4.0),
        )
    ]
    softmax = np.exp(np.array([5.0, 6.0, 6.0]) - 6)
    expected = [
        weights,
        (0, 0.1, 0.1),
        (0.05, 0.12, 0.13),
        (0, 0, 0.3),
        np.asarray(weights) * softmax / softmax.sum(),
        (1, 4, 0),
    ]
    # Two of the weighted values are the largest, and share the derivative.
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        if i in (1, 2):
            assert float(jnp.sum(a)) == pytest.approx(sum(b), abs=0.06)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_pbi_is_along_and_across() -> None:
    values, weights = jnp.asarray([2.0, 1.0]), (1.0, 0.0)
    found = _weigh(PBI(_sgd(), weights, penalty=3.0), jnp.eye(2), values)
    np.testing.assert_allclose(found, [1.0, 3.0], rtol=1e-6)
    on_the_line = _weigh(PBI(_sgd(), weights, penalty=3.0), jnp.eye(2), jnp.asarray([2.0, 0.0]))
    np.testing.assert_allclose(on_the_line, [1.0, 0.0])


def test_random_weights_are_fresh_at_each_step() -> None:
    rule, params = RandomWeighting(_sgd()), jnp.zeros(2)
    state = rule.init(params, key=jr.key(1))
    grads = jnp.eye(2)
    state, first = rule.step(state, params, grads)
    _, second = rule.step(state, params, grads)
    np.testing.assert_allclose([-first.sum(), -second.sum()], 1, rtol=1e-6)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("rule", [MGDA, *slow(UPGrad, CAGrad, NashMTL, IMTLG), PCGrad])
def test_a_step_is_the_weighted_sum_of_whole_gradients(rule: Any) -> None:
    params = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4, jnp.bfloat16), "n": None}
    keys = jr.split(jr.key(0))
    stacked = {"a": jr.normal(keys[0], (3, 2, 3)), "b": jr.normal(keys[1], (3, 4), jnp.bfloat16), "n": None}
    combiner = rule(_sgd())
    _, new = combiner.step(combiner.init(params), params, Gradients(stacked))
    rows = np.concatenate([np.asarray(stacked["a"]).reshape(3, -1), np.asarray(stacked["b"], np.float32)], 1)
    key = jr.split(jr.split(jr.key(0))[1])[0] if combiner.random else None
    w = np.asarray(combiner.weigh(jnp.asarray(rows @ rows.T), None, key=key))
    np.testing.assert_allclose(new["a"], -(w @ rows)[:6].reshape(2, 3), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.asarray(new["b"], np.float32), -(w @ rows)[6:], rtol=3e-2, atol=3e-2)
    assert new["n"] is None


@pytest.mark.parametrize(
    ("rule", "grads", "text"),
    [
        (MGDA(_sgd()), jnp.ones((1, 2)), "at least two objectives .* but 1 was given"),
        (MGDA(_sgd()), jnp.ones((2, 3)), "has shape"),
        (Chebyshev(_sgd()), jnp.ones((2, 2)), r"reads the values .* Pass `metaopt.multiobjective.Gradients"),
        (WeightedSum(_sgd(), (1.0, 2.0, 3.0)), jnp.ones((2, 2)), "`weights` has 3 entries, .* of 2 objectives"),
        (UPGrad(_sgd()), Gradients(jnp.ones((2, 2)), jnp.ones(3)), "`values` has 3 entries"),
    ],
)
def test_signals_that_do_not_fit_are_refused(rule: AbstractCombiner, grads: Any, text: str) -> None:
    params = jnp.zeros(2)
    with pytest.raises(ValueError, match=text):
        rule.step(rule.init(params), params, grads)


def test_leaves_must_agree_on_the_number_of_objectives() -> None:
    rule, params = MGDA(_sgd()), {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    with pytest.raises(ValueError, match=r"leaves with \[2, 3\] were given"):
        rule.step(rule.init(params), params, {"a": jnp.zeros((2, 2)), "b": jnp.zeros((3, 2))})


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="`smoothing` must be positive"):
        Chebyshev(_sgd(), smoothing=0.0)
    with pytest.raises(ValueError, match="`index` must be at least 0 and below 2"):
        EpsilonConstraint(_sgd(), (1.0, 1.0), index=2)


@pytest.mark.parametrize("rule", [*slow(CAGrad), PCGrad])
def test_sums_of_large_half_precision_gradients_are_finite(rule: Any) -> None:
    """Weights add up to more than one, and 60000 times that is more than half precision holds."""
    combiner = rule(metaopt.from_optax(optax.sgd, learning_rate=1e-5))
    params = {"w": jnp.ones(3, jnp.float16)}
    grads = {"w": jnp.stack([jnp.full(3, 6e4), jnp.asarray([6e4, -6e4, 5e4])]).astype(jnp.float16)}
    _, new = combiner.step(combiner.init(params), params, grads)
    assert jnp.all(jnp.isfinite(new["w"])) and new["w"][0] < 1
