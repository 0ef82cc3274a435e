"""The part of the C++ kernel that depends on the rule."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from metaopt.backend import EPSILON

from .._elements import Node, Rule, Unsupported
from .._layout import COLUMN, FULL, ROW, SCALAR


TEMPLATE = (pathlib.Path(__file__).parent / "kernel.cc").read_text()
_NUMBERS = {"float32": "float", "float64": "double"}
_TYPES = {**_NUMBERS, "bool": "bool", "int32": "int32_t"}
_INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
}
_CALLS = {
    **{"abs": "std::abs", "sqrt": "std::sqrt", "exp": "EXP", "log": "LOG", "exp2": "std::exp2", "sin": "SIN"},
    **{"cos": "COS", "tanh": "TANH", "expm1": "EXPM1", "log1p": "LOG1P", "erf": "std::erf", "floor": "std::floor"},
    **{"ceil": "std::ceil", "pow": "std::pow", "is_finite": "std::isfinite"},
}
_BLOCK = "const T* const* p, const T* s, const T* r, const T* c, int64_t stride, int64_t col, int n"


def write(rule: Rule, kinds: Sequence[int], leaf_kinds: Sequence[int], sizes: Sequence[int], dtype: str) -> str:
    """The source of the kernel for one rule.

    **Arguments:**

    - `rule`: what is computed.
    - `kinds`: per number of the rule, what it varies along.
    - `leaf_kinds`: per operand, what it varies along.
    - `sizes`: of the network's layers, inputs first.
    - `dtype`: what all is computed in.

    **Raises:**

    - `Unsupported`: for number types or operations that are not known.
    """
    if dtype not in _NUMBERS:
        raise Unsupported(f"numbers of type {dtype} are not computed with")
    for node in rule.program.nodes:
        if node.operation == "operand" and node.dtype != dtype:
            raise Unsupported(f"an operand of type {node.dtype} belongs to parameters of type {dtype}")
    return _Writer(rule, kinds, leaf_kinds, sizes, dtype).source()


class _Writer:
    def __init__(self, rule: Rule, kinds: Sequence[int], leaf_kinds: Sequence[int], sizes: Sequence[int], dtype: str):
        self.rule, self.kinds, self.leaf_kinds, self.sizes, self.dtype = rule, kinds, leaf_kinds, sizes, dtype
        self.nodes = rule.program.nodes
        self.results = [*[n for numbers in rule.state for n in numbers], rule.param]
        needed = rule.needed([*rule.values, *rule.squares, *self.results])
        # Numbers of a lesser kind that others need are computed once, and kept in tables.
        kept: set[int] = {n for n in (*rule.values, *rule.squares, *self.results) if kinds[n] != FULL}
        for n in needed:
            kept |= {a for a in self.nodes[n].arguments if kinds[a] != kinds[n]}
        self.tables = {
            kind: [n for n in sorted(kept) if kinds[n] == kind and self.nodes[n].operation != "constant"]
            for kind in (SCALAR, ROW, COLUMN)
        }

        self.pointers = {
            (self.nodes[n].options["leaf"], self.nodes[n].options["index"]): n
            for n in needed
            if kinds[n] == FULL and self.nodes[n].operation == "operand"
        }

    def source(self) -> str:
        functions = [
            self._once(),
            self._columns(),
            self._each_row(),
            self._pointers(),
            *self._squares(),
            self._features(),
            *self._first_layer(),
            self._network(),
            self._finish(),
        ]
        text = TEMPLATE.replace("// @constants", self._constants())
        return text.replace("// @functions", "\n".join(functions))

    def _of_kind(self, nodes: Sequence[int], kind: int) -> list[int]:
        return [k for k, n in enumerate(nodes) if self.kinds[n] == kind]

    def _constants(self) -> str:
        suffix = "f" if self.dtype == "float32" else ""
        names = [*("exp", "log", "sin", "cos", "tanh", "expm1", "log1p")]
        full, squares = self._of_kind(self.rule.values, FULL), self._of_kind(self.rule.squares, FULL)
        lines = [
            f"using T = {_NUMBERS[self.dtype]};",
            *[f"#define {name.upper()} ::{name}{suffix}" for name in names],
            f"constexpr double EPSILON = {EPSILON!r};",
            f"constexpr int LEAVES = {len(self.rule.leaves)}, RESULTS = {len(self.rule.state) + 1};",
            f"constexpr int FEATURES = {len(self.rule.values)}, FULL = {len(full)};",
            f"constexpr int COLUMN_FEATURES = {len(self._of_kind(self.rule.values, COLUMN))};",
            f"constexpr int FULL_SQUARES_COUNT = {len(squares)};",
            _array("FULL_FEATURES", full),
            _array("FULL_SQUARES", squares),
            _array("KINDS", [self.kinds[n] for n in self.rule.squares]),
            _array("SIZES", self.sizes),
            f"constexpr int WIDEST = {max(self.sizes[1:])};",
            f"constexpr int SCALAR_VALUES = {len(self.tables[SCALAR])}, ROW_VALUES = {len(self.tables[ROW])};",
            f"constexpr int COLUMN_VALUES = {len(self.tables[COLUMN])}, POINTERS = {len(self.pointers)};",
        ]
        return "\n".join(lines)

    # Expressions.

    def _name(self, n: int, kind: int) -> str:
        """How a number is called in code that computes numbers of a kind."""
        node = self.nodes[n]
        if node.operation == "constant":
            return _literal(node)
        if self.kinds[n] == kind:
            return f"x{n}"
        place = self.tables[self.kinds[n]].index(n)
        return f"t{'src'[self.kinds[n]]}{place}"

    def _statements(self, nodes: Sequence[int], kind: int, load: Callable[[int, int], str]) -> list[str]:
        """Compute these numbers, of one kind, and all of that kind that they need."""
        lines = []
        for n in self.rule.needed(nodes):
            node = self.nodes[n]
            if self.kinds[n] == kind and node.operation != "constant":
                lines.append(f"const {_type(node)} x{n} = {self._expression(node, kind, load)};")
        return lines

    def _expression(self, node: Node, kind: int, load: Callable[[int, int], str]) -> str:
        options = node.options
        if node.operation == "operand":
            return load(options["leaf"], options["index"])
        if node.operation == "output":
            return f"y[{options['index']}][i]"
        return _operation(node, [self._name(a, kind) for a in node.arguments])

    def _borrowed(self, nodes: Sequence[int], kind: int, column: str) -> list[str]:
        """Names for the numbers of lesser kinds that these need; those along columns go inside of loops."""
        needed = self.rule.needed(nodes)
        used = {a for n in needed if self.kinds[n] == kind for a in self.nodes[n].arguments} | set(nodes)
        return [
            f"const {_type(self.nodes[n])} t{'src'[k]}{place} = {_type(self.nodes[n])}({access});"
            for k, table in self.tables.items()
            if k != kind and (k == COLUMN) == bool(column)
            for place, n in enumerate(table)
            if n in used
            for access in [f"{'src'[k]}[{place}]" if k != COLUMN else f"c[{place} * stride + {column}]"]
        ]

    # Functions, in the order in which the kernel calls them.

    def _once(self) -> str:
        table = self.tables[SCALAR]
        body = self._statements(table, SCALAR, lambda leaf, e: f"in[{leaf}][{e} * free[{leaf}]]")
        body += [f"s[{place}] = T(x{n});" for place, n in enumerate(table)]
        return _function("once(const T* const* in, const int64_t* free, T* s)", body)

    def _columns(self) -> str:
        table = self.tables[COLUMN]
        loop = self._statements(table, COLUMN, lambda leaf, e: f"in[{leaf}][{e} * free[{leaf}] + i]")
        loop += [f"c[{place} * stride + i] = T(x{n});" for place, n in enumerate(table)]
        body = [*self._borrowed(table, COLUMN, ""), *_loop("int64_t i = begin; i < end; i++", loop)]
        return _function(
            "columns(const T* const* in, const int64_t* free, const T* s, int64_t begin, int64_t end, T* c, "
            "int64_t stride)",
            body if table else [],
        )

    def _each_row(self) -> str:
        table = self.tables[ROW]
        body = self._borrowed(table, ROW, "")
        body += self._statements(table, ROW, lambda leaf, e: f"in[{leaf}][{e} * free[{leaf}] + at[{leaf}]]")
        body += [f"r[{place}] = T(x{n});" for place, n in enumerate(table)]
        return _function("each_row(const T* const* in, const int64_t* at, const int64_t* free, const T* s, T* r)", body)

    def _stored(self, kind: int, nodes: Sequence[int]) -> list[tuple[int, str]]:
        """Per feature of this kind, where its number is."""
        found = []
        for k in self._of_kind(nodes, kind):
            node = self.nodes[nodes[k]]
            constant = node.operation == "constant"
            place = "" if constant else self.tables[kind].index(nodes[k])
            where = {SCALAR: f"s[{place}]", ROW: f"r[{place}]", COLUMN: f"c[{place} * stride + i]"}
            found.append((k, f"T({_literal(node)})" if constant else where[kind]))
        return found

    def _squares(self) -> list[str]:
        nodes = self.rule.squares
        full = [nodes[k] for k in self._of_kind(nodes, FULL)]
        loop = [f"sums[{place}][i] += x{n};" for place, n in enumerate(full)]
        column = [
            line
            for k, value in self._stored(COLUMN, nodes)
            for line in ["{ double sum = 0;", *_loop("int64_t i = begin; i < end; i++", [f"sum += {value};"], ""),
                         f"total[{k}] += sum; }}"]
        ]  # fmt: skip
        return [
            _function(
                "scalar_squares(const T* s, T* out)",
                [f"out[{k}] = {value};" for k, value in self._stored(SCALAR, nodes)],
            ),
            _function(
                "row_squares(const T* s, const T* r, double* total)",
                [f"total[{k}] += {value};" for k, value in self._stored(ROW, nodes)],
            ),
            _function("column_squares(const T* c, int64_t stride, int64_t begin, int64_t end, double* total)", column),
            self._block("squares", full, loop, "LANES", "T (*sums)[LANES]"),
        ]

    def _features(self) -> str:
        full = [self.rule.values[k] for k in self._of_kind(self.rule.values, FULL)]
        stores = [f"f[{place}][i] = x{n};" for place, n in enumerate(full)]
        return self._block("features", full, stores, "BLOCK", "T (*f)[BLOCK]")

    def _finish(self) -> str:
        counts = [len(numbers) for numbers in self.rule.state] + [1]
        pointers, stores = [], []
        for place, n in enumerate(self.results):
            leaf = int(np.searchsorted(np.cumsum(counts), place, side="right"))
            index = place - sum(counts[:leaf])
            pointers.append(f"T* o{place} = out[{leaf}] + {index} * size + begin + col;")
            stores.append(f"o{place}[i] = {self._name(n, FULL)};")
        arguments = "const T (*y)[BLOCK], T* const* out, int64_t begin, int64_t size"
        return self._block("finish", self.results, stores, "BLOCK", arguments, pointers)

    def _pointers(self) -> str:
        """Where the numbers that are read per element begin, for one row."""
        body = [
            f"p[{place}] = in[{leaf}] + {e} * free[{leaf}] + at[{leaf}];"
            for place, (leaf, e) in enumerate(self.pointers)
        ]
        return _function("pointers(const T* const* in, const int64_t* at, const int64_t* free, const T** p)", body)

    def _block(
        self,
        name: str,
        nodes: Sequence[int],
        stores: Sequence[str],
        length: str,
        arguments: str,
        before: Sequence[str] = (),
    ) -> str:
        """A function that computes numbers for the elements of a block."""
        needed = self.rule.needed(nodes)
        places = [place for place, n in enumerate(self.pointers.values()) if n in needed]
        body = [f"const T* p{place} = p[{place}] + col;" for place in places]
        body += [f"fetch(p{place});" for place in places] if name == "features" else []
        body += [*self._borrowed(nodes, FULL, ""), *before]
        loop = self._borrowed(nodes, FULL, "col + i")
        order = list(self.pointers)
        loop += self._statements(nodes, FULL, lambda leaf, e: f"p{order.index((leaf, e))}[i]")
        body += _loop(f"int i = 0; i < (WHOLE ? {length} : n); i++", [*loop, *stores])
        return "template <bool WHOLE>\n" + _function(f"{name}({_BLOCK}, {arguments})", body)

    def _first_layer(self) -> list[str]:
        nodes, hidden = self.rule.values, "for (int j = 0; j < SIZES[1]; j++)"
        scalar = [f"{hidden} bias[j] += {v} * w[{k} * SIZES[1] + j];" for k, v in self._stored(SCALAR, nodes)]
        rows = [f"{hidden} bias[j] += {v} * w[{k} * SIZES[1] + j];" for k, v in self._stored(ROW, nodes)]
        columns = [f"sum += {value} * w[{k} * SIZES[1] + j];" for k, value in self._stored(COLUMN, nodes)]
        loop = _loop("int i = 0; i < LANES; i++", ["T sum = 0;", *columns, "panel[j * LANES + i] = sum;"])
        return [
            _function("add_scalars(const T* s, const T* w, T* bias)", scalar),
            _function("add_rows(const T* r, const T* w, T* bias)", rows),
            _function(
                "add_columns(const T* c, int64_t stride, const T* w, T* panel)",
                [f"{hidden} {{", *loop, "}"] if columns else [],
            ),
        ]

    def _network(self) -> str:
        """All layers for LANES elements: the first reads features, the last writes outputs, both of a whole block."""
        last = len(self.sizes) - 2
        body = []
        for k in range(last + 1):
            first = k == 0
            inputs, panel = ("FULL", "(COLUMN_FEATURES > 0)") if first else (str(self.sizes[k]), "false")
            shape = (
                f"{inputs}, {self.sizes[k + 1]}, {str(k < last).lower()}, {panel}, "
                f"{'BLOCK' if first else 'LANES'}, {'BLOCK' if k == last else 'LANES'}"
            )
            source = "f" if first else f"hidden[{(k + 1) % 2}][0]"
            target = "y" if k == last else f"hidden[{k % 2}][0]"
            weights = "weight, bias, panel" if first else f"others[{k}].data(), biases[{k}], nullptr"
            body.append(f"layer<{shape}>({source}, {weights}, {target});")
        return _function(
            "network(const T* f, const T* weight, const T* bias, const T* panel, "
            "const std::vector<T>* others, const T* const* biases, T (*hidden)[WIDEST][LANES], T* y)",
            body,
        )


def _function(head: str, body: Sequence[str]) -> str:
    return "\n".join([f"static inline void {head} {{", *body, "}"])


def _loop(head: str, body: Sequence[str], hint: str = "#pragma GCC ivdep") -> list[str]:
    return [*([hint] if hint else []), f"for ({head}) {{", *body, "}"]


def _array(name: str, values: Sequence[int]) -> str:
    return f"constexpr int {name}[] = {{{', '.join(map(str, values or [0]))}}};"


def _type(node: Node) -> str:
    if node.dtype not in _TYPES:
        raise Unsupported(f"numbers of type {node.dtype} are not computed with")
    return _TYPES[node.dtype]


def _literal(node: Node) -> str:
    value, kind = node.options["value"], _type(node)
    if isinstance(value, bool):
        return str(value).lower()
    if np.isfinite(value):
        return f"{kind}({value!r})"
    special = "quiet_NaN" if np.isnan(value) else "infinity"
    return f"{'-' if value == -np.inf else ''}std::numeric_limits<{kind}>::{special}()"


def _operation(node: Node, a: list[str]) -> str:
    name, kind = node.operation, _type(node)
    if name in _INFIX:
        return f"{a[0]} {_INFIX[name]} {a[1]}"
    if name in _CALLS:
        return f"{_CALLS[name]}({', '.join(a)})"
    if name in ("and", "or"):
        sign = {"and": "&", "or": "|"}[name]
        return f"{a[0]} {sign} {a[1]}"
    if name == "integer_pow":
        y = node.options["y"]
        product = " * ".join([a[0]] * abs(y)) or f"{kind}(1)"
        return product if y >= 0 else f"{kind}(1) / ({product})"
    # Either operand that is not a number is the result.
    maximum, minimum = [f"({{0}} {sign} {{1}} || {{0}} != {{0}}) ? {{0}} : {{1}}" for sign in "><"]
    special = {
        "neg": "-{0}",
        "not": "!{0}" if kind == "bool" else "~{0}",
        "square": "{0} * {0}",
        "rsqrt": f"{kind}(1) / std::sqrt({{0}})",
        "logistic": f"{kind}(1) / ({kind}(1) + EXP(-{{0}}))",
        "sign": f"{{0}} > 0 ? {kind}(1) : {{0}} < 0 ? {kind}(-1) : {{0}}",
        "max": maximum,
        "min": minimum,
        "clamp": minimum.format(f"({maximum})", "{2}"),
        "convert_element_type": f"{kind}({{0}})",
        "select_n": "{0} ? {2} : {1}",
    }
    if name not in special or (name == "select_n" and len(a) > 3):
        raise Unsupported(f"`{name}` has no C++ form here")
    return special[name].format(*a)
