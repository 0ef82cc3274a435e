import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import metaopt
from metaopt.l2o import RecurrentController, pretrained
from metaopt.l2o.parts._losses import LossMemory
from metaopt.l2o.parts._orthogonal import newton_schulz, unit_orthogonal


def _silent(**options):
    """A rule whose controls are all zero."""
    rule = RecurrentController(0.1, 4, horizon=20, **options)
    where = lambda r: (r.network.readout.weight, r.network.readout.bias)  # noqa: E731
    return eqx.tree_at(where, rule, replace_fn=jnp.zeros_like)


def test_newton_schulz_keeps_singular_vectors(getkey):
    x = jr.normal(getkey(), (6, 9))
    u, _, v = np.linalg.svd(np.asarray(x, float), full_matrices=False)
    y = np.asarray(newton_schulz(x), float)
    in_the_basis = u.T @ y @ v.T
    assert np.all(np.abs(np.diag(in_the_basis) - 1) < 0.35)
    assert np.max(np.abs(in_the_basis - np.diag(np.diag(in_the_basis)))) < 1e-4
    np.testing.assert_allclose(newton_schulz(x.T), y.T, rtol=1e-4, atol=1e-5)


def test_unit_orthogonal_has_unit_size_and_takes_kernels(getkey):
    kernel = unit_orthogonal(jr.normal(getkey(), (3, 3, 4, 8)))
    assert kernel.shape == (3, 3, 4, 8)
    assert 0.7 < float(jnp.sqrt(jnp.mean(kernel**2))) < 1.3
    assert jnp.all(unit_orthogonal(jnp.zeros((3, 2))) == 0)


@pytest.mark.slow
def test_without_controls_vectors_see_adam_with_a_cosine(getkey):
    rule = _silent(second_decay=0.9)
    params, m, v = jr.normal(getkey(), (5,)), np.zeros(5), np.zeros(5)
    state, expected = rule.init(params), np.asarray(params, float)
    for t in range(6):
        grad = jr.normal(getkey(), (5,))
        state, params = rule.step(state, params, grad, value=jnp.asarray(1.0))
        g = np.asarray(grad, float)
        m, v = 0.9 * m + 0.1 * g, 0.9 * v + 0.1 * g**2
        direction = m / (1 - 0.9 ** (t + 1)) / np.sqrt(v / (1 - 0.9 ** (t + 1)))
        expected = expected - 0.1 * (1 + np.cos(np.pi * t / 20)) / 2 * direction
        np.testing.assert_allclose(params, expected, rtol=2e-5)


@pytest.mark.slow
def test_without_controls_matrices_see_an_orthogonal_step(getkey):
    rule = _silent(orthogonality=50.0, second_decay=0.9)
    params, grad = jr.normal(getkey(), (4, 6)), jr.normal(getkey(), (4, 6))
    _, new = rule.step(rule.init(params), params, grad)
    # At the first step the direction of Adam is the sign.
    step = 0.1 * 0.4 * unit_orthogonal(jnp.sign(grad))
    np.testing.assert_allclose(params - new, step, rtol=1e-2, atol=1e-4)


def test_the_scale_and_shift_of_the_loss_do_not_matter(getkey):
    rule = RecurrentController(0.1, 4)
    # Controls that matter.
    rule = eqx.tree_at(lambda r: r.network.readout.weight, rule, jr.normal(getkey(), (7, 4)))
    target = jr.normal(getkey(), (3, 4))

    @eqx.filter_jit
    def run(scale, shift):
        params = {"w": jnp.zeros((3, 4)), "b": jnp.ones(4)}

        def body(carry, _):
            state, params = carry
            loss = lambda p: scale * jnp.sum((p["w"] + p["b"][None] - target) ** 2) + shift  # noqa: E731
            value, grads = jax.value_and_grad(loss)(params)
            return rule.step(state, params, grads, value=value), None

        return jax.lax.scan(body, (rule.init(params), params), length=6)[0][1]

    one, other = run(jnp.asarray(1.0), jnp.asarray(0.0)), run(jnp.asarray(1000.0), jnp.asarray(500.0))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4)


def test_loss_memory_passes_over_what_is_not_finite():
    memory = LossMemory.create()
    for x in (3.0, 2.0, jnp.nan, jnp.inf, 1.0):
        memory = memory.see(jnp.asarray(x))
    assert memory.told == 3 and memory.first == 3
    np.testing.assert_allclose(memory.fast, 2.0, rtol=1e-6)
    assert bool(jnp.all(jnp.isfinite(memory.features())))
    assert bool(jnp.all(LossMemory.create().features() == 0))
    assert memory.see(None) is memory


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="a fast, a main and a slow one"):
        RecurrentController(momentum_decays=(0.9,))
    with pytest.raises(ValueError, match="`iterations` must be a whole number of at least 0"):
        RecurrentController(iterations=-1)
    with pytest.raises(ValueError, match="`learning_rate` must be positive"):
        RecurrentController(0.0)
    with pytest.raises(ValueError, match="`warmup` must be at least 0 and less than 1, but 1.0 was given"):
        RecurrentController(warmup=1.0)


@pytest.mark.slow
def test_the_rate_rises_over_the_first_part_of_the_steps(getkey):
    del getkey
    rules = [RecurrentController(0.1, 4, warmup=part, iterations=0, horizon=100) for part in (0.0, 0.1)]
    # Without controls a rule is Adam under a schedule, so that the first steps differ by the schedule alone.
    rules = [eqx.tree_at(lambda r: r.network.readout.weight, rule, jnp.zeros((7, 4))) for rule in rules]
    params, grads = jnp.zeros(3), jnp.array([1.0, -2.0, 0.5])

    @jax.jit
    def steps(rule):
        state, seen, moves = rule.init(params), params, []
        for _ in range(12):
            state, new = rule.step(state, seen, grads, value=jnp.asarray(1.0))
            moves.append(new - seen)
            seen = new
        return jnp.stack(moves)

    plain, warm = map(steps, rules)
    np.testing.assert_allclose(
        warm / plain, np.minimum(1, np.arange(1.0, 13) / 10)[:, None] * np.ones((1, 3)), rtol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bound"), [("general", 1.0), pytest.param("small", 1.1, marks=pytest.mark.slow)])
def test_pretrained_weights_are_as_good_as_adam_at_its_best_rate(name, bound):
    from metaopt.tasks import Generated

    family = Generated(data="waves", width=16, criterion="squared_error")

    def final(algorithm, key):
        task = family.sample(key=key)
        trajectory = metaopt.unroll(metaopt.Learner(algorithm), task, steps=150, key=key)
        return task.measure(trajectory.params, key=key)

    def mean(algorithm):
        run = eqx.filter_jit(eqx.filter_vmap(lambda key: final(algorithm, key)))
        return float(jnp.exp(jnp.mean(jnp.log(run(jr.split(jr.key(5), 8))))))

    import optax

    rates = [0.003, 0.01, 0.03, 0.1]
    adam = eqx.filter_jit(lambda rate: mean_traced(metaopt.from_optax(optax.adam, learning_rate=rate)))

    def mean_traced(algorithm):
        return jnp.mean(jnp.log(jax.vmap(lambda key: final(algorithm, key))(jr.split(jr.key(5), 8))))

    best = min(float(jnp.exp(adam(jnp.asarray(rate)))) for rate in rates)
    assert mean(pretrained(name)) < bound * best


def test_pretrained_names_are_checked():
    with pytest.raises(ValueError, match="must be one of `general`, `small`"):
        pretrained("huge")
