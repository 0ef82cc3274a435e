"""Programs of single numbers are the functions that they were made of, in C++ and as arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from metaopt.backend import Feature, Network, Pointwise, Tensor
from metaopt_backends._elements import ELEMENTWISE, Unsupported, trace
from metaopt_backends.native import Native
from metaopt_backends.pallas._evaluate import evaluate


def everything(x: Array, y: Array) -> list[Array]:
    """All elementwise operations, where they are defined."""
    near = jnp.clip(x, -0.9, 0.9)
    positive = jnp.abs(x) + 0.1
    whole = jnp.clip(jnp.where(jnp.isfinite(x), x, 0), -9, 9).astype(jnp.int32)
    numbers = [
        *(x + y, x - y, x * y, x / y, -x, jnp.maximum(x, y), jnp.minimum(x, y), jnp.abs(x), jnp.sign(x), jnp.square(x)),
        *(x**3, x**-2, positive**y, jnp.sqrt(positive), jax.lax.rsqrt(positive), jnp.sqrt(x)),
        *(jnp.exp(x), jnp.log(positive), jnp.log(x), jnp.exp2(x), jnp.log1p(near), jnp.expm1(x), jnp.tanh(x)),
        *(jax.nn.sigmoid(x), jnp.sin(x), jnp.cos(x), jax.lax.erf(x), jnp.floor(x), jnp.ceil(x)),
        *(jax.lax.clamp(-y, x, y), jnp.clip(x, -1, 1), jnp.where(x > y, x, 2 * y), jnp.where(x >= y, 1.5, y)),
        *(jax.nn.relu(x), jax.nn.gelu(x), jax.nn.softplus(x), jnp.hypot(near, positive)),
    ]
    truths = [
        *(x == y, x != y, x < y, x <= y, x > y, x >= y, jnp.isfinite(x), jnp.isnan(x)),
        *((x < y) & (x > 0), (x < y) | (x > 0), ~(x < y)),
    ]
    integers = [whole + 2, whole * whole, jnp.maximum(whole, 1), -whole, jnp.abs(whole), jnp.where(whole > 1, whole, 5)]
    return [*numbers, *[n.astype(x.dtype) for n in (*truths, *integers)]]


def rearranged(x: Array, y: Array) -> list[Array]:
    """Several numbers per element, stacked and summed, sliced and swapped."""
    both = jnp.stack([x, 2 * y, x * y])
    swapped = jnp.concatenate([both[1:], both[:1]])[::-1]
    parts = jnp.split(swapped, 3)
    return [
        *(jnp.sum(both, axis=0), jnp.max(both, axis=0), jnp.min(both, axis=0), jnp.prod(both, axis=0)),
        *(parts[0][0], parts[2].reshape(x.shape), jnp.mean(jnp.transpose(both[None], (1, 0, 2, 3))[:, 0], axis=0)),
    ]


def _all(x: Array, y: Array) -> Array:
    return jnp.stack([*everything(x, y), *rearranged(x, y)])


RULE = Pointwise(
    lambda param, state, operand: (_all(param, operand), param),
    lambda seen: [Feature(seen)],
    lambda seen, outputs: seen + outputs[0],
)
COUNT = jax.eval_shape(_all, *[jax.ShapeDtypeStruct((1, 1), jnp.float32)] * 2).shape[0]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -1.5, 3.0, 1e-30, 80.0, -80.0, jnp.inf, -jnp.inf, jnp.nan]


@pytest.fixture(params=["finite", "special"])
def operands(request: pytest.FixtureRequest, getkey: Callable[[], Array]) -> tuple[Array, Array]:
    if request.param == "finite":
        return jr.normal(getkey(), (30, 40)) * 3, jr.normal(getkey(), (30, 40)) + 2
    x, y = jnp.meshgrid(jnp.asarray(SPECIAL), jnp.asarray(SPECIAL))
    return jnp.tile(x, (4, 5)), jnp.tile(y, (4, 5))


def _tensor(operands: tuple[Array, Array]) -> Tensor:
    x, y = operands
    return Tensor(x, jnp.zeros((COUNT, *x.shape)), y)


def _network() -> Network:
    return Network.create([1, 2, 1], key=jr.key(0))


def test_all_operations_are_tried(operands: tuple[Array, Array]) -> None:
    rule = trace(RULE, _network(), _tensor(operands))
    assert {node.operation for node in rule.program.nodes} - {"operand", "constant", "output"} == ELEMENTWISE


def test_in_cpp(native: Native, operands: tuple[Array, Array], caplog: pytest.LogCaptureFixture) -> None:
    x, y = operands
    kernel = jax.jit(lambda *own: native.network_update(RULE, _network(), jnp.zeros(0), [Tensor(*own)])[0].state)
    found, wanted = kernel(*_tensor(operands)[:3]), jax.jit(_all)(x, y)
    assert "no native kernel" not in caplog.text
    for index in range(COUNT):
        np.testing.assert_allclose(found[index], wanted[index], rtol=3e-6, atol=1e-6, err_msg=str(index))


def test_as_arrays(operands: tuple[Array, Array]) -> None:
    x, y = operands
    rule = trace(RULE, _network(), _tensor(operands))
    (numbers,) = rule.state

    @jax.jit
    def evaluated(x: Array, y: Array) -> list[Array]:
        arrays = {0: x, 2: y}
        known: dict[int, Array] = {}
        evaluate(rule, numbers, lambda leaf, _: arrays[leaf], known)
        return [known[n] for n in numbers]

    for index, (found, wanted) in enumerate(zip(evaluated(x, y), jax.jit(_all)(x, y), strict=True)):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6, err_msg=str(index))


def test_equal_numbers_are_computed_once() -> None:
    def twice(param: Array, state: None, grad: Array) -> tuple[None, Any]:
        return None, (param * grad, param * grad)

    rule = Pointwise(twice, lambda seen: [Feature(x) for x in seen], lambda seen, outputs: seen[0] - outputs[0])
    x = jnp.zeros((2, 3))
    traced = trace(rule, Network.create([2, 1], key=jr.key(0)), Tensor(x, None, x))
    assert traced.values[0] == traced.values[1] and traced.squares[0] == traced.squares[1]
    assert [node.operation for node in traced.program.nodes].count("mul") == 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: jnp.cumsum(x, axis=0), "`cumsum` is not an elementwise"),
        (lambda x: jnp.sort(x, axis=0), "`sort` is not an elementwise"),
        (lambda x: jnp.stack([x, x]), "a feature or a parameter has 2 numbers per element"),
    ],
)
def test_what_is_not_elementwise_is_refused(function: Callable[[Array], Array], words: str) -> None:
    rule = Pointwise(lambda p, s, g: (s, p), lambda seen: [Feature(function(seen))], lambda seen, outputs: seen)
    x = jnp.zeros((2, 3))
    with pytest.raises(Unsupported, match=words):
        trace(rule, _network(), Tensor(x, None, x))
