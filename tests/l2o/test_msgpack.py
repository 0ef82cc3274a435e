"""The file format of flax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt.l2o.published._msgpack import MOST_VALUES, FormatError, pack, unpack


def tree() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "single": generator.normal(size=(3, 2)).astype(np.float32),
        "deep": {"deeper": {"double": generator.normal(size=5), "none": np.zeros((0, 2), np.float32)}},
        "scalar": np.asarray(2.5, np.float16),
        "count": np.arange(300, dtype=np.int32),
        "many axes": np.ones((1,) * 17, bool),
        "brain": np.asarray(jnp.arange(3, dtype=jnp.bfloat16)),
        **{f"{i}" * 9: np.asarray([i], np.uint8) for i in range(30)},
        "long name" * 30: np.zeros(1, np.complex64),
    }


def assert_same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("chunk", [2**30, 400, 5, 1])
def test_a_tree_comes_back(chunk: int) -> None:
    assert_same(unpack(pack(tree(), chunk=chunk)), tree())


def test_large_arrays_are_in_pieces() -> None:
    # 300 numbers of 4 bytes: three pieces of 100.
    content = pack({"x": np.arange(300, dtype=np.int32)}, chunk=400)
    assert content.startswith(
        b"\x81\xa1x\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x81\xa10\xcd\x01\x2c\xa6chunks\x83"
    )


# From the specification of MessagePack: value, bytes.
VALUES: list[tuple[Any, bytes]] = [
    (None, b"\xc0"),
    (False, b"\xc2"),
    (True, b"\xc3"),
    (127, b"\x7f"),
    (-32, b"\xe0"),
    (200, b"\xcc\xc8"),
    (1000, b"\xcd\x03\xe8"),
    (2**31, b"\xce\x80\x00\x00\x00"),
    (2**63, b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00"),
    (-100, b"\xd0\x9c"),
    (-1000, b"\xd1\xfc\x18"),
    (-(2**31), b"\xd2\x80\x00\x00\x00"),
    (-(2**63), b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
    (0.5, b"\xca\x3f\x00\x00\x00"),
    (0.1, b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
    ("ä", b"\xa2\xc3\xa4"),
    ("ab", b"\xd9\x02ab"),
    ("ab", b"\xda\x00\x02ab"),
    ("ab", b"\xdb\x00\x00\x00\x02ab"),
    (b"ab", b"\xc4\x02ab"),
    (b"ab", b"\xc5\x00\x02ab"),
    (b"ab", b"\xc6\x00\x00\x00\x02ab"),
    ([1, []], b"\x92\x01\x90"),
    ([1], b"\xdc\x00\x01\x01"),
    ([1], b"\xdd\x00\x00\x00\x01\x01"),
    ({"a": 1}, b"\x81\xa1a\x01"),
    ({"a": 1}, b"\xde\x00\x01\xa1a\x01"),
    ({"a": 1}, b"\xdf\x00\x00\x00\x01\xa1a\x01"),
    (1 + 2j, b"\xc7\x13\x02\x92\xcb\x3f\xf0" + bytes(6) + b"\xcb\x40\x00" + bytes(6)),
]


@pytest.mark.parametrize(("value", "content"), VALUES, ids=[content[:4].hex() for _, content in VALUES])
def test_values_of_the_specification(value: Any, content: bytes) -> None:
    assert unpack(content) == value and type(unpack(content)) is type(value)
    for size in range(len(content)):
        with pytest.raises(FormatError) as caught:
            unpack(content[:size])
        assert caught.value.truncated
    with pytest.raises(FormatError, match="1 bytes follow"):
        unpack(content + b"\x00")


def array(shape: bytes, name: bytes, content: bytes) -> bytes:
    inside = b"\x93" + shape + bytes([0xA0 | len(name)]) + name + b"\xc4" + bytes([len(content)]) + content
    return b"\xc7" + bytes([len(inside)]) + b"\x01" + inside


def pieces(**parts: Any) -> bytes:
    return pack({"__msgpack_chunked_array__": True, **parts})


PART = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xc1", "byte 0 is 0xc1, which begins no value"),
        (b"\x81\x01\x02", "the key at byte 1 is no text"),
        (b"\x82\xa1a\x01\xa1a\x01", "the key 'a' at byte 4 is there twice"),
        (b"\xa1\xff", "should be text at byte 1 is none"),
        (b"\x91" * 40 + b"\x01", "nested more than 32 deep"),
        (b"\xc7\x03\x01\x91\x01\x00", "does not end where it should"),
        (b"\xc7\x02\x09\x91\x01", "of an unknown type, 9"),
        (b"\xd4\x01\x00", "not a shape, a dtype and bytes"),
        (array(b"\x91\x01", b"object", b"\0" * 8), "unknown dtype 'object'"),
        (array(b"\x91\x02", b"float32", b"\0" * 4), "has 4 bytes, which is not float32\\[2\\]"),
        (array(b"\x91\xff", b"float32", b""), "impossible shape \\[-1\\]"),
        (array(b"\x91\xc3", b"float32", b"\0" * 4), "impossible shape \\[True\\]"),
        (array(b"\x92\x00\xcf" + b"\x7f" * 8, b"float32", b""), "impossible shape"),
        (pieces(shape={"0": 2}), "does not number its parts"),
        (pieces(shape={"1": 2}, chunks={"0": PART}), "does not number its parts"),
        (pieces(shape={"0": 2}, chunks={"0": {}}), "other parts than its shape"),
        (pieces(shape={"0": 3}, chunks={"0": PART}), "do not make one of shape \\[3\\]"),
        (pieces(shape={"0": PART}, chunks={"0": PART}), "impossible shape"),
        (pieces(shape={"0": 4}, chunks={"0": PART, "1": PART.astype(np.float64)}), "do not make one"),
        (pieces(shape={"0": 0}, chunks={}), "do not make one"),
    ],
)
def test_what_is_not_written_by_flax_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        unpack(content)


def test_extensions_in_extensions_have_an_end() -> None:
    content = b"\x01"
    for _ in range(5000):
        content = b"\xc9" + len(content).to_bytes(4, "big") + b"\x01" + content
    with pytest.raises(FormatError, match="nested more than 32 deep"):
        unpack(content)


@pytest.mark.slow
def test_values_of_one_byte_have_an_end() -> None:
    with pytest.raises(FormatError, match=f"holds more than {MOST_VALUES} values"):
        unpack(b"\xdd\x7f\xff\xff\xff" + b"\x01" * (MOST_VALUES + 1))


@pytest.mark.slow
def test_damaged_files_raise_nothing_else() -> None:
    content = pack({"a": {"b": np.ones((2, 1), np.float32)}, "c": np.zeros(3, np.int8)}, chunk=4)
    # One of each kind of value, and both ends of those that take more than one.
    kinds = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE1), 0xFF]
    refused = 0
    for position in range(len(content)):
        with pytest.raises(FormatError) as caught:
            unpack(content[:position])
        assert caught.value.truncated
        for byte in kinds:
            try:
                unpack(content[:position] + bytes([byte]) + content[position + 1 :])
            except FormatError:
                refused += 1
    assert refused > 0.5 * len(kinds) * len(content)


@pytest.mark.parametrize("value", [None, "text", 1.5, -1, ["list"], {"a": object()}])
def test_only_trees_of_arrays_are_written(value: Any) -> None:
    with pytest.raises(TypeError, match="Only dictionaries and arrays"):
        pack(value)
