"""Rules for sparse coding: known answers, and the laws of all algorithms for those that fit one shape."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import jaxtyping
import numpy as np
import pytest

import metaopt
from metaopt.l2o import ALISTA, FISTA, ISTA, LISTA, LISTACP
from metaopt.l2o.sparse._unfolded import shrink, shrink_outside
from metaopt.tasks import SparseCoding
from tests._cases import fast
from tests.laws.running import init, scanned, step, two_steps
from tests.laws.trees import all_finite, assert_close


FAMILY = SparseCoding(12, 20, density=0.15, signal="residual")
A = FAMILY.dictionary
RULES: dict[str, Callable[[], metaopt.AbstractAlgorithm]] = {
    "ista": lambda: ISTA(A),
    "fista": lambda: FISTA(A),
    "lista": lambda: LISTA(A, 3),
    "tied lista": lambda: LISTA(A, 3, support=(0.05, 0.1), tied=True),
    "tied lista-cp": lambda: LISTACP(A, 3, tied=True),
    "lista-cpss": lambda: LISTACP(A, 3, support=(0.05, 0.1)),
    "alista": lambda: ALISTA(A, 3, support=(0.05, 0.1)),
}
ALL = pytest.mark.parametrize("name", fast(list(RULES), "fista", "lista", "lista-cpss"))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As users run: without the type checks of the tests, which come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _soft(x: np.ndarray, threshold: float) -> np.ndarray:
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def _iterates(rule: metaopt.AbstractAlgorithm, task: Any, steps: int) -> np.ndarray:
    @eqx.filter_jit
    def run(rule: metaopt.AbstractAlgorithm, task: Any) -> jax.Array:
        def body(carry: Any, _: None) -> tuple[Any, jax.Array]:
            state, x = carry
            value, signal = task.evaluate(x, key=jr.key(0))
            state, x = rule.step(state, x, signal, value=value)
            return (state, x), x

        x = task.init(key=jr.key(0))
        return jax.lax.scan(body, (rule.init(x), x), None, length=steps)[1]

    return np.asarray(run(rule, task))


def _problem(seed: int = 0, dtype: Any = jnp.float32) -> tuple[jax.Array, list[jax.Array]]:
    keys = jr.split(jr.key(seed), 3)
    return jr.normal(keys[0], (20,), dtype), [jr.normal(key, (12,), dtype) for key in keys[1:]]


def test_soft_threshold() -> None:
    x = jnp.asarray([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5])
    np.testing.assert_allclose(shrink(x, jnp.asarray(1.0)), [-2, 0, 0, 0, 0, 0, 1.5])
    slope = jax.grad(lambda t: jnp.sum(shrink(x, t) * jnp.arange(7.0)))(0.9)
    np.testing.assert_allclose(slope, 0 + 1 - 5 - 6)


def test_soft_threshold_outside_of_a_support() -> None:
    x = jnp.asarray([-3.0, 0.5, 2.0, 1.5, -0.2])
    for count, wanted in ((0, [-2, 0, 1, 0.5, 0]), (1, [-3, 0, 1, 0.5, 0]), (2, [-3, 0, 2, 0.5, 0])):
        np.testing.assert_allclose(shrink_outside(x, jnp.asarray(1.0), count, 2), wanted)
    # What is below the threshold is shrunk, however many there may be.
    np.testing.assert_allclose(shrink_outside(x, jnp.asarray(1.0), jnp.asarray(4), 4), [-3, 0, 2, 1.5, 0])


def test_ista_is_proximal_gradient_descent(x64: None) -> None:
    task = FAMILY.sample(key=jr.key(1))
    b, lipschitz = np.asarray(task.measurements), np.linalg.eigvalsh(A.T @ A)[-1]
    x, wanted = np.zeros(20), []
    for _ in range(50):
        x = _soft(x - A.T @ (A @ x - b) / lipschitz, 0.2 / lipschitz)
        wanted.append(x)
    np.testing.assert_allclose(_iterates(ISTA(A, 0.2), task, 50), wanted, rtol=1e-9, atol=1e-12)


def test_fista_is_accelerated_by_the_sequence_of_the_paper(x64: None) -> None:
    task = FAMILY.sample(key=jr.key(2))
    b = np.asarray(task.measurements)
    x, y, t, wanted = np.zeros(20), np.zeros(20), 1.0, []
    for _ in range(50):
        old, x = x, _soft(y - 0.1 * A.T @ (A @ y - b), 0.1 * 0.2)
        old_t, t = t, (1 + np.sqrt(1 + 4 * t**2)) / 2
        y = x + (old_t - 1) / t * (x - old)
        wanted.append(x)
    np.testing.assert_allclose(_iterates(FISTA(A, 0.2, 0.1), task, 50), wanted, rtol=1e-8, atol=1e-12)


def test_the_fixed_point_is_that_of_the_lasso(x64: None) -> None:
    task = FAMILY.sample(key=jr.key(3))
    x = _iterates(FISTA(A, 0.05), task, 3000)[-1]
    slope = A.T @ (A @ x - np.asarray(task.measurements))
    np.testing.assert_allclose(slope[x != 0], -0.05 * np.sign(x[x != 0]), atol=1e-8)
    assert np.all(np.abs(slope[x == 0]) <= 0.05 + 1e-8)


@pytest.mark.parametrize("rule", [LISTA, LISTACP])
@pytest.mark.parametrize("tied", [False, True])
def test_untrained_layers_are_ista(rule: Any, tied: bool, x64: None) -> None:
    task = FAMILY.sample(key=jr.key(4))
    # Five steps of three layers: the last one is taken again.
    np.testing.assert_allclose(
        _iterates(rule(A, 3, 0.2, tied=tied), task, 5), _iterates(ISTA(A, 0.2), task, 5), rtol=1e-9, atol=1e-12
    )


def test_lista_is_the_rule_of_the_paper_in_other_coordinates(getkey: Callable[[], jax.Array], x64: None) -> None:
    task = FAMILY.sample(key=getkey())
    rule = LISTA(A, 3, 0.2)
    rule = jtu.tree_map(lambda leaf: leaf + 0.05 * jr.normal(getkey(), leaf.shape), rule)
    x, wanted, b = np.zeros(20), [], np.asarray(task.measurements)
    assert rule.layers.matrices is not None
    for k in range(3):
        first = np.asarray(rule.layers.matrices.weights[k]).T
        second = np.asarray(rule.layers.matrices.memory[k]) - first @ A
        x = _soft(first @ b + second @ x, np.exp(rule.layers.log_threshold[k]))
        wanted.append(x)
    np.testing.assert_allclose(_iterates(rule, task, 3), wanted, rtol=1e-9, atol=1e-12)


def test_support_selection_grows_by_layers(x64: None) -> None:
    rule = LISTACP(A, 4, 1.0, 1.0, support=(0.1, 0.3))
    x, zero = jnp.arange(1.0, 21.0), jnp.zeros(12)
    state, kept = rule.init(x), []
    for _ in range(5):
        state, new = rule.step(state, x, zero)
        kept.append(int(jnp.sum(new == x)))
        np.testing.assert_array_equal(new, np.where(np.arange(20) < 20 - kept[-1], x - 1, x))
    assert kept == [2, 4, 6, 6, 6]


def test_analytic_weights_are_least_coherent() -> None:
    weights = np.asarray(ALISTA(A).weights, np.float64)
    product = weights.T @ A
    np.testing.assert_allclose(np.diagonal(product), 1, atol=1e-6)
    gram = A.T @ A - np.eye(20)
    off = product - np.eye(20)
    assert np.linalg.norm(off) < 0.95 * np.linalg.norm(gram)
    # Optimal: any other direction that keeps the diagonal has a larger norm.
    generator = np.random.default_rng(0)
    for size in (1e-2, 1e-1):
        other = generator.normal(size=weights.shape)
        other -= A * np.sum(A * other, axis=0)
        assert np.linalg.norm((weights + size * other).T @ A) > np.linalg.norm(product)


def test_analytic_weights_of_the_benchmark_have_less_coherence_than_the_dictionary() -> None:
    matrix = SparseCoding().dictionary
    weights = np.asarray(ALISTA(matrix, 1).weights, np.float64)
    assert np.max(np.abs(weights.T @ matrix - np.eye(500))) < np.max(np.abs(matrix.T @ matrix - np.eye(500)))


def test_a_batch_is_one_product() -> None:
    rule = LISTACP(A, 3)

    def both(x: jax.Array, b: jax.Array) -> Any:
        return rule.step(rule.init(x), x, b)[1]

    text = str(jax.make_jaxpr(jax.vmap(both))(jnp.ones((7, 20)), jnp.ones((7, 12))))
    assert text.count("dot_general") == 1 and "f32[7,20] = dot_general" in text


@ALL
def test_structure_shapes_and_dtypes_are_kept(name: str, x64: None) -> None:
    for dtype in ("bfloat16", "float64"):
        rule, (params, signals) = RULES[name](), _problem(dtype=jnp.dtype(dtype))
        state = rule.init(params)
        new = two_steps(rule, params, signals)
        for before, after in zip(jtu.tree_leaves((state, params)), jtu.tree_leaves(new), strict=True):
            assert (before.shape, before.dtype, before.weak_type) == (after.shape, after.dtype, after.weak_type)
        assert all_finite(new)
        assert jnp.any(new[1] != params)


@ALL
def test_jit_is_eager_and_scan_is_a_loop(name: str) -> None:
    rule, problem = RULES[name](), _problem()
    wanted = two_steps(rule, *problem)
    assert_close(two_steps(rule, *problem, init=init, step=step), wanted)
    assert_close(scanned(rule, *problem), wanted)


@ALL
def test_vmap_is_a_loop(name: str) -> None:
    rule, problems = RULES[name](), [_problem(seed) for seed in range(3)]
    params, signals = jtu.tree_map(lambda *x: jnp.stack(x), *problems)
    batched = jax.jit(jax.vmap(lambda p, s: two_steps(rule, p, s)))(params, signals)
    for i, problem in enumerate(problems):
        assert_close(jtu.tree_map(lambda x, i=i: x[i], batched), two_steps(rule, *problem))


@ALL
def test_derivatives_are_finite_differences(name: str, x64: None) -> None:
    rule, (params, signals) = RULES[name](), _problem(dtype=jnp.float64)
    numbers, rest = eqx.partition(rule, eqx.is_inexact_array)

    @jax.jit
    def total(numbers: Any) -> jax.Array:
        return jnp.sum(scanned(eqx.combine(numbers, rest), params, signals)[1] * jnp.arange(20.0))

    grads = jax.jit(jax.grad(total))(numbers)
    leaves, structure = jtu.tree_flatten(numbers)
    for i, grad in enumerate(jtu.tree_leaves(grads)):
        direction = jr.normal(jr.key(i), grad.shape, grad.dtype)
        ends = [
            total(jtu.tree_unflatten(structure, [*leaves[:i], leaves[i] + s * direction, *leaves[i + 1 :]]))
            for s in (1e-6, -1e-6)
        ]
        np.testing.assert_allclose(jnp.sum(grad * direction), (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-6)
    assert all(bool(jnp.any(grad != 0)) for grad in jtu.tree_leaves(grads))


@ALL
def test_zero_and_bad_residuals(name: str) -> None:
    rule, (params, _) = RULES[name](), _problem()
    assert all_finite(two_steps(rule, jnp.zeros(20), [jnp.zeros(12)] * 2))
    _, new = two_steps(rule, params, [jnp.full(12, jnp.nan), jnp.zeros(12)])
    assert new.shape == (20,)


@ALL
def test_round_trip(name: str, tmp_path: Any) -> None:
    rule = RULES[name]()
    metaopt.save(tmp_path / "rule", jtu.tree_map(lambda x: x + 1, rule))
    assert eqx.tree_equal(metaopt.load(tmp_path / "rule", rule), jtu.tree_map(lambda x: x + 1, rule))


@ALL
def test_other_shapes_are_refused(name: str, unchecked: None) -> None:
    rule, (params, signals) = RULES[name](), _problem()
    with pytest.raises(ValueError, match=r"`grads` must be a vector of 12 floating-point numbers.*residual"):
        rule.step(rule.init(params), params, params)
    with pytest.raises(ValueError, match="`params` must be a vector of 20"):
        rule.step(rule.init(params), {"x": params}, signals[0])
    metaopt.check(rule, task=FAMILY.sample(key=jr.key(0)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ISTA(A, 0.0), "`weight` must be positive"),
        (lambda: FISTA(A, rate=-1.0), "`rate` must be positive"),
        (lambda: ISTA(np.zeros((2, 3))), "3 of 3 are not"),
        (lambda: LISTA(A, 0), "`depth` must be at least 1, but 0"),
        (lambda: LISTACP(A, support=(0.1, 1.5)), r"`support` must be two shares .* but \(0.1, 1.5\)"),
        (lambda: ALISTA(A, rate=0.0), "`rate` must be positive"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
