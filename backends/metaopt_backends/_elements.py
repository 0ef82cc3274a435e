"""Elementwise functions as straight-line programs of single numbers, for kernels that no array language writes."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from metaopt.backend import Network, Pointwise, Tensor


class Unsupported(Exception):
    """Raised when a function is not elementwise, or uses what kernels cannot compute."""


class Node(NamedTuple):
    """One number: of an operand (`leaf`, with `index` among its free axes), a constant, or of other numbers.

    `arguments` are positions in the program; `parameters` are those of the primitive.
    """

    operation: str
    arguments: tuple[int, ...]
    parameters: tuple[tuple[str, Any], ...]
    dtype: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.parameters)


_Values: TypeAlias = np.ndarray  # of positions, with the shape that the value has beside its element

# They only rearrange; what they do to numbers they do to positions.
_STRUCTURAL = {
    "broadcast_in_dim",
    "concatenate",
    "expand_dims",
    "reshape",
    "rev",
    "slice",
    "split",
    "squeeze",
    "stack",
    "transpose",
    "unstack",
}
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "core_call"}
_SAME = {"copy", "stop_gradient", "copy_p"}
ELEMENTWISE = {
    *("add", "sub", "mul", "div", "neg", "max", "min", "abs", "sign", "square", "integer_pow", "pow", "sqrt", "rsqrt"),
    *("exp", "log", "exp2", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "erf", "floor", "ceil"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "is_finite", "select_n", "clamp", "convert_element_type"),
}
_REDUCTIONS = {"reduce_sum": "add", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "mul"}


class Program:
    """Numbers in the order in which they can be computed; equal ones are one."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[Hashable, int] = {}

    def add(
        self,
        operation: str,
        arguments: Sequence[int | np.integer] = (),
        parameters: dict[str, Any] | None = None,
        dtype: Any = None,
    ) -> int:
        node = Node(
            operation,
            tuple(int(a) for a in arguments),
            tuple(sorted((parameters or {}).items())),
            np.dtype(dtype).name,
        )
        key = node if operation != "constant" else (*node[:2], repr(node.parameters), node.dtype)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def constants(self, value: Any) -> _Values:
        array = np.asarray(value)
        flat = [self.add("constant", (), {"value": x.item()}, array.dtype) for x in array.reshape(-1)]
        return np.array(flat, dtype=np.int64).reshape(array.shape)

    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[_Values]) -> list[_Values]:
        """The numbers that a jaxpr computes of others.

        **Raises:**

        - `Unsupported`: for an operation that is not elementwise, or not known here.
        """
        known: dict[Any, _Values] = dict(zip(jaxpr.constvars, map(self.constants, consts), strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> _Values:
            if not isinstance(atom, jex.Literal):
                return known[atom]
            aval: Any = atom.aval
            return self.constants(np.asarray(atom.val, aval.dtype))

        for equation in jaxpr.eqns:
            values = self._equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, values, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, values: list[_Values]) -> list[_Values]:
        name, parameters = equation.primitive.name, equation.params
        dtype = equation.outvars[0].aval.dtype
        if name in _CALLS:
            inner = parameters.get("call_jaxpr", parameters.get("jaxpr"))
            closed = hasattr(inner, "consts")
            return self.run(inner.jaxpr if closed else inner, inner.consts if closed else (), values)
        if name in _SAME:
            return values
        if name in _STRUCTURAL:
            with jax.ensure_compile_time_eval():
                out = equation.primitive.bind(*[jnp.asarray(v, jnp.int32) for v in values], **parameters)
            return [np.asarray(x) for x in (out if equation.primitive.multiple_results else [out])]
        if name in _REDUCTIONS:
            return [self._reduce(_REDUCTIONS[name], values[0], parameters["axes"], dtype)]
        if name not in ELEMENTWISE:
            raise Unsupported(f"`{name}` is not an elementwise operation that this kernel has")
        kept = {key: parameters[key] for key in ("y", "new_dtype") if key in parameters}
        kept = {key: np.dtype(x).name if key == "new_dtype" else x for key, x in kept.items()}
        shape = np.broadcast_shapes(*[v.shape for v in values])
        columns = zip(*[np.broadcast_to(v, shape).reshape(-1).tolist() for v in values], strict=True)
        flat = [self.add(name, column, kept, dtype) for column in columns]
        return [np.array(flat, dtype=np.int64).reshape(shape)]

    def _reduce(self, operation: str, values: _Values, axes: Sequence[int], dtype: Any) -> _Values:
        rest = [axis for axis in range(values.ndim) if axis not in axes]
        moved = values.transpose(*rest, *axes).reshape(*[values.shape[axis] for axis in rest], -1)
        out = moved[..., 0]
        for column in range(1, moved.shape[-1]):
            pairs = zip(out.reshape(-1).tolist(), moved[..., column].reshape(-1).tolist(), strict=True)
            out = np.array([self.add(operation, pair, None, dtype) for pair in pairs]).reshape(out.shape)
        return out


class Leaf(NamedTuple):
    """An operand array: its free axes in front, and which axes of the tensor it varies along."""

    free: tuple[int, ...]
    varies: tuple[bool, ...]

    @property
    def numbers(self) -> int:
        return int(np.prod(self.free, dtype=int))


class Rule(NamedTuple):
    """All that is elementwise in an update, for one kind of tensor.

    - `leaves`: of the parameters, the state and the operands, in the order of `jax.tree_util`.
    - `varies`: per node, the axes that it varies along.
    - `values`, `squares`: the features.
    - `outputs`: the nodes that stand for the outputs of the network.
    - `state`: per leaf of the state, its numbers.
    - `param`: the new parameter.
    """

    program: Program
    leaves: tuple[Leaf, ...]
    varies: tuple[tuple[bool, ...], ...]
    values: tuple[int, ...]
    squares: tuple[int, ...]
    outputs: tuple[int, ...]
    state: tuple[tuple[int, ...], ...]
    param: int

    def needed(self, nodes: Sequence[int]) -> list[int]:
        """These nodes and all that they are computed of, in order."""
        found, waiting = set(), list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(self.program.nodes[node].arguments)
        return sorted(found)


def leaves_of(tensor: Tensor) -> tuple[list[Any], tuple[Leaf, ...]]:
    """The operand arrays of a tensor, and what they are."""
    arrays, axes = jtu.tree_leaves(tensor[:3]), len(tensor.shape)

    def describe(x: Any) -> Leaf:
        if x.ndim == 0:
            return Leaf((), (False,) * axes)
        own = x.shape[x.ndim - axes :]
        varies = tuple(n > 1 and n == m for n, m in zip(own, tensor.shape, strict=True))
        return Leaf(tuple(x.shape[: x.ndim - axes]), varies)

    return arrays, tuple(describe(x) for x in arrays)


def trace(pointwise: Pointwise, network: Network, tensor: Tensor) -> Rule:
    """Write an update as a program of single numbers.

    **Raises:**

    - `Unsupported`: if one of its functions is not elementwise, or not simple enough.
    """
    arrays, leaves = leaves_of(tensor)
    axes, dtype = len(tensor.shape), tensor.param.dtype
    structure = jtu.tree_structure(tensor[:3])
    program = Program()
    given, owner = [], {}
    for position, (array, leaf) in enumerate(zip(arrays, leaves, strict=True)):
        numbers = [
            program.add("operand", (), {"leaf": position, "index": index}, array.dtype) for index in range(leaf.numbers)
        ]
        owner.update(dict.fromkeys(numbers, leaf.varies))
        shape = () if array.ndim == 0 else (*leaf.free, *(1,) * axes)
        given.append(np.array(numbers, dtype=np.int64).reshape(shape))
    count = network.layers[-1].bias.shape[0]
    outputs = [program.add("output", (), {"index": index}, dtype) for index in range(count)]
    one = jtu.tree_unflatten(
        structure, [jax.ShapeDtypeStruct(v.shape, a.dtype) for v, a in zip(given, arrays, strict=True)]
    )

    def seen(param: Any, state: PyTree, operands: PyTree) -> tuple[Any, list[Any], list[Any]]:
        new, known = pointwise.observe(param, state, operands)
        features = list(pointwise.features(known))
        squares = [jnp.square(f.value) if f.square is None else f.square for f in features]
        return new, [f.value for f in features], squares

    def finished(arguments: Any, outputs: list[Any]) -> Any:
        return pointwise.finish(pointwise.observe(*arguments)[1], outputs)

    new, values, squares = _evaluate(program, seen, given, *one)
    stand_ins = [jax.ShapeDtypeStruct((1,) * axes, dtype)] * count
    places = [np.array(o).reshape((1,) * axes) for o in outputs]
    (param,) = jtu.tree_leaves(_evaluate(program, finished, [*given, *places], one, stand_ins))
    varies = _dependence(program, owner, set(outputs), axes)
    return Rule(
        program,
        leaves,
        varies,
        tuple(_single(v) for v in values),
        tuple(_single(v) for v in squares),
        tuple(outputs),
        tuple(tuple(int(n) for n in v.reshape(-1)) for v in jtu.tree_leaves(new)),
        _single(param),
    )


def _evaluate(program: Program, function: Callable[..., Any], given: Sequence[_Values], *arguments: Any) -> Any:
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    numbers = program.run(closed.jaxpr, closed.consts, given)
    return jtu.tree_unflatten(jtu.tree_structure(shape), numbers)


def _single(values: _Values) -> int:
    if values.size != 1:
        raise Unsupported(f"a feature or a parameter has {values.size} numbers per element")
    return int(values.reshape(()))


def _dependence(
    program: Program, owner: dict[int, tuple[bool, ...]], outputs: set[int], axes: int
) -> tuple[tuple[bool, ...], ...]:
    varies: list[tuple[bool, ...]] = []
    for position, node in enumerate(program.nodes):
        if position in outputs:
            varies.append((True,) * axes)
        elif position in owner:
            varies.append(owner[position])
        else:
            parts = [varies[a] for a in node.arguments]
            varies.append(tuple(any(part[axis] for part in parts) for axis in range(axes)))
    return tuple(varies)
