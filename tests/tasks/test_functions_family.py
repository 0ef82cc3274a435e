import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.tasks import Functions


def _sample(*kinds):
    return jax.jit(jax.vmap(lambda key: Functions(kinds).sample(key=key)))(jr.split(jr.key(0), 200))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("sine", lambda x, c: np.sin(x)),
        ("step", lambda x, c: np.where(x < 0, -1.0, 1.0)),
        ("bump", lambda x, c: np.exp(-0.5 * x**2)),
        ("vee", lambda x, c: np.abs(x) / 2.5 - 1),
    ],
)
def test_kinds_are_their_formulas(kind, shape):
    tasks = _sample(kind)
    points = np.linspace(-5, 5, 7)
    found = jax.vmap(lambda task: task.target(jnp.asarray(points, jnp.float32)))(tasks)
    wanted = np.asarray(tasks.amplitude)[:, None] * shape(points[None] - np.asarray(tasks.shift)[:, None], None)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_polynomials_are_of_third_degree():
    task = Functions(("polynomial",)).sample(key=jr.key(1))
    powers = np.stack([np.linspace(-1, 1, 9) ** k for k in (1, 2, 3)])
    wanted = float(task.amplitude) * np.asarray(task.coefficients) @ powers
    np.testing.assert_allclose(task.target(jnp.linspace(-5.0, 5.0, 9)), wanted, rtol=1e-4, atol=1e-5)


def test_only_chosen_kinds_are_drawn():
    tasks = _sample("step", "vee")
    assert set(tasks.kind.tolist()) == {2, 4}
    counts = np.bincount(np.asarray(_sample("sine", "polynomial", "step", "bump", "vee").kind), minlength=5)
    assert counts.min() > 20


def test_support_and_query_are_apart():
    task = Functions(shots=3, queries=7).sample(key=jr.key(0))
    params, key = task.init(key=jr.key(1)), jr.key(2)
    predicted = task.network.apply(params, task.query[:, None])[:, 0]
    np.testing.assert_allclose(
        task.measure(params, key=key), jnp.mean((predicted - task.target(task.query)) ** 2), rtol=1e-5
    )
    assert task.support.shape == (3,) and task.query.shape == (7,)
    assert task.loss(params, key=key) != task.measure(params, key=key)


def test_no_kind_is_refused():
    with pytest.raises(ValueError, match="`kinds` is empty"):
        Functions(())
