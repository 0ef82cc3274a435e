"""Published weights: files, what is wrong with some, and what the authors' own code does with one."""

import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import metaopt
from metaopt.bench.faults._fuzz import attempt, trials
from metaopt.l2o import LSTM, Celo, Celo2, CeloAdam, VeLO, load_published, save_published
from metaopt.l2o.published._msgpack import pack, unpack
from metaopt.l2o.published._published import KINDS, read_published
from metaopt.runs import describe
from tests._cases import fast
from tests.l2o._cells import arrays, shaken


SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "celo"
RULES: dict[str, Callable[[], Any]] = {
    "celo": lambda: Celo(3, 1, scheduler_size=2),
    "celo_adam": lambda: CeloAdam(scheduler_size=2),
    "celo2": lambda: Celo2(hidden_size=3),
    "velo": lambda: VeLO(3, scheduler_size=2, bank_size=4, mix_scale=100.0),
}


@pytest.fixture
def theta() -> pathlib.Path:
    path = SHARED / "theta.state"
    if not path.exists():
        pytest.skip("the authors' weights are not here")
    return path


def test_celo_does_what_the_code_of_its_authors_does(theta: pathlib.Path) -> None:
    with np.load(SHARED / "trajectory_digits.npz") as file:
        data = dict(file)
    rule = metaopt.with_horizon(load_published(theta, kind="celo"), 100)

    def loss(params: dict[str, Array], x: Array, y: Array) -> Array:
        hidden = jax.nn.relu(x @ params["w1"] + params["b1"][None])
        logits = hidden @ params["w2"] + params["b2"][None]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))

    @jax.jit
    def step(state: Any, params: dict[str, Array], x: Array, y: Array) -> tuple[Any, dict[str, Array], Array]:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return *rule.step(state, params, grads, value=value), value

    params = {name: jnp.asarray(data[f"init/{name}"]) for name in ("b1", "b2", "w1", "w2")}
    state, losses = rule.init(params), []
    for count, (x, y) in enumerate(zip(data["batches_x"], data["batches_y"], strict=True), start=1):
        state, params, value = step(state, params, x, y)
        losses.append(float(value))
        if count in (1, 2, 5, 10):
            for name, found in params.items():
                np.testing.assert_allclose(found, data[f"step{count}/{name}"], rtol=0, atol=1e-5, err_msg=f"{count}")
    np.testing.assert_allclose(losses, data["losses"], rtol=0, atol=1e-3)


def test_the_authors_file_is_what_we_would_write(theta: pathlib.Path) -> None:
    content = theta.read_bytes()
    assert pack(unpack(content)) == content


def test_only_what_is_never_read_is_lost(theta: pathlib.Path, tmp_path: pathlib.Path) -> None:
    save_published(tmp_path / "again.state", load_published(theta))
    given, again = read_published(theta), read_published(tmp_path / "again.state")
    assert given[0] == again[0] == "celo" and set(given[1]) == set(again[1])
    unread = {f"rnn_params/{layer}/{part}" for layer in ("linear", "rnn_to_controls") for part in "bw"}
    for name, array in given[1].items():
        if name in unread:
            assert not np.any(again[1][name])
        else:
            kept = [slice(None)] * (array.ndim - 1) + [slice(2 if name[-2:] in ("b2", "w2") else None)]
            np.testing.assert_array_equal(again[1][name][tuple(kept)], array[tuple(kept)])


@pytest.mark.parametrize("kind", fast(list(RULES), "celo2"))
def test_what_is_written_is_read(kind: str, tmp_path: pathlib.Path, getkey: Callable[[], Array]) -> None:
    rule = RULES[kind]()
    numbers = {
        leaf: shaken(getattr(rule, leaf), getkey())
        for leaf in ("network", "bank", "scheduler", "controls")
        if hasattr(rule, leaf)
    }
    for name, value in numbers.items():
        rule = eqx.tree_at(lambda r, name=name: getattr(r, name), rule, value)
    save_published(tmp_path / "theta.state", rule)
    again = load_published(tmp_path / "theta.state", kind)
    assert eqx.tree_equal(again, rule)
    params = {"w": arrays(getkey())["matrix"]}
    assert eqx.tree_equal(again.init(params), rule.init(params))
    text = describe(tmp_path / "theta.state")
    assert f": published weights of `{kind}`\n\nto be read by metaopt.l2o.load_published(path, {kind!r})\n" in text
    first = "ff_mod_stack/~/b0" if kind == "celo2" else "rnn_params/step_size/w"
    assert first in text and " arrays of " in text


def test_options_that_a_file_does_not_hold(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "theta.state"
    save_published(file, RULES["celo2"]())
    base = load_published(file, "celo2", orthogonalize=False, adam_scale=None, rate=0.5)
    assert not base.orthogonalize and base.adam is None and float(jnp.exp(base.log_rate)) == 0.5
    for option in ("hidden_size", "hidden_layers", "key", "raet"):
        with pytest.raises(TypeError, match=f"`{option}` is no option .* there are adam_pattern, adam_scale"):
            load_published(file, "celo2", **{option: 3})


@pytest.mark.slow
def test_in_double_precision(x64: None, tmp_path: pathlib.Path) -> None:
    rule = RULES["celo"]()
    save_published(tmp_path / "theta.state", rule)
    again = load_published(tmp_path / "theta.state")
    assert again.network.layers[0].weight.dtype == jnp.float64
    np.testing.assert_allclose(again.network.layers[0].weight, rule.network.layers[0].weight, rtol=1e-7)


@pytest.mark.parametrize("part", ["params", "0"])
def test_weights_beside_other_things(part: str, tmp_path: pathlib.Path) -> None:
    file, rule = tmp_path / "theta.state", RULES["celo_adam"]()
    save_published(file, rule)
    outer = b"\x82" + bytes([0xA0 | len(part)]) + part.encode() + file.read_bytes() + b"\xa4step\x07"
    file.write_bytes(outer)
    assert eqx.tree_equal(load_published(file, "celo_adam"), rule)


@pytest.mark.parametrize("given", RULES)
@pytest.mark.parametrize("wanted", RULES)
def test_another_kind_is_refused(given: str, wanted: str, tmp_path: pathlib.Path) -> None:
    if given == wanted:
        return
    file = tmp_path / "theta.state"
    save_published(file, RULES[given]())
    with pytest.raises(metaopt.CheckpointError, match=f"looks like weights of `{given}`, not of `{wanted}`"):
        load_published(file, wanted)


def changed(file: pathlib.Path, rule: Any, name: str, value: Any) -> None:
    """Write weights with one array replaced, or left out."""
    save_published(file, rule)
    tree = unpack(file.read_bytes())
    *outer, last = name.replace("rnn/linear", "rnn|linear").split("/")
    inner = tree
    for key in outer:
        inner = inner[key.replace("|", "/")]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    file.write_bytes(pack(tree))


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        (
            "celo",
            "ff_mod_stack/~/w0__3",
            np.ones((1, 2, 3), np.float32),
            r"`ff_mod_stack/~/w0__3` is of shape \(1, 2, 3\) "
            r"in the file, but \(1, 3, 3\) was wanted",
        ),
        ("celo", "ff_mod_stack/~/b0", np.ones((1, 5), np.float32), r"`ff_mod_stack/~/w0__0` .* \(1, 1, 5\) was wanted"),
        ("celo", "ff_mod_stack/~/b0", np.ones((), np.float32), "`ff_mod_stack/~/b0` is missing, or a single number"),
        ("celo", "ff_mod_stack/~/b0", np.ones((2**18,), np.float32), "was wanted"),
        ("celo", "rnn_params/rnn/linear/b", np.ones(9, np.float32), r"`rnn_params/rnn/linear/b` .*\(9,\).*\(8,\)"),
        ("celo_adam", "rnn_params/step_size/w", None, "`rnn_params/step_size/w` is missing"),
        ("celo2", "ff_mod_stack/~/w1", None, r"Not in the file: \['ff_mod_stack/~/w1'\]; only in the file: nothing"),
        ("velo", "ff_mod_stack/~/w9", np.ones(2, np.float32), r"only in the file: \['ff_mod_stack/~/w9'\]"),
        ("velo", "ff_mod_stack/~/b1", np.ones(2, np.int32), "`ff_mod_stack/~/b1` is of int32"),
        ("velo", "ff_mod_stack/~/b1", np.full(2, np.nan, np.float32), "`ff_mod_stack/~/b1` is empty, or not finite"),
        ("velo", "ff_mod_stack/~/b1", np.ones((0, 2), np.float32), "`ff_mod_stack/~/b1` is empty"),
        ("celo2", "ff_mod_stack", {"other": np.ones(1)}, "was wanted|Not in the file|is missing"),
    ],
)
def test_what_does_not_fit_is_named(kind: str, name: str, value: Any, words: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "theta.state"
    changed(file, RULES[kind](), name, value)
    with pytest.raises(metaopt.CheckpointError, match=words):
        load_published(file, kind)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is truncated: it ends at byte 0"),
        (b"Just text", "holds no published weights, or is damaged: 8 bytes follow"),
        (b"\x81\xa1x\x01", "holds no weights of `celo`, .* but `x`"),
        (b"\x80", "holds no weights of `celo`, .* but nothing"),
        (b"\x07", "holds no weights of"),
    ],
)
def test_other_files(content: bytes, words: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(metaopt.CheckpointError, match=words):
        load_published(tmp_path / "file")


def test_what_is_no_file_kind_or_rule(tmp_path: pathlib.Path) -> None:
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(metaopt.CheckpointError, match=f"cannot be read: {words}"):
            load_published(path)
    with pytest.raises(ValueError, match="must be one of `celo`, `celo_adam`, `celo2`, `velo`, but 'lion'"):
        load_published(tmp_path / "none", "lion")
    with pytest.raises(TypeError, match="must be one of `Celo`, .* but a `LSTM` was given"):
        save_published(tmp_path / "none", LSTM())
    assert set(KINDS) == set(RULES)


def test_a_truncated_file_is_described_as_such(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "theta.state"
    save_published(file, CeloAdam(scheduler_size=1))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(metaopt.CheckpointError, match="theta.state` is truncated"):
        describe(file)


def test_a_path_that_is_there_twice(tmp_path: pathlib.Path) -> None:
    """A key may hold the mark that joins keys to paths."""
    array = np.ones(1, np.float32)
    (tmp_path / "file").write_bytes(pack({"a": {"b": array}, "a/b": array}))
    with pytest.raises(metaopt.CheckpointError, match="or is damaged: `a/b` is there twice"):
        load_published(tmp_path / "file")


@pytest.mark.slow
def test_damaged_files_raise_what_is_said(tmp_path: pathlib.Path) -> None:
    kind = trials()["published weights"]
    found = attempt(kind._replace(readers=kind.readers[:2]), tmp_path, 300, seed=0)  # nothing that compiles
    assert not found.undocumented and 100 < found.refused < 290


@pytest.mark.slow
def test_damaged_files_raise_nothing_else(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "theta.state"
    save_published(file, CeloAdam(scheduler_size=1))
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content[:position])
        with pytest.raises(metaopt.CheckpointError, match="is truncated"):
            load_published(file, "celo_adam")
    refused = 0
    tried = range(0, len(content), 11)
    for position in tried:
        for byte in (0x00, 0x81, 0xC9, 0xFF):
            file.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
            try:
                kind, _ = read_published(file)
                if position % 110 == 0:
                    load_published(file, kind)
            except metaopt.CheckpointError:
                refused += 1
    assert refused > 0.5 * len(tried)
