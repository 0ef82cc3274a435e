"""Random damage to trees of tables and lists, and to bytes."""

import copy
import math
import random
from collections.abc import Iterator
from typing import Any


_WORDS = ["name", "path", "shape", "dtype", "key", "leaves", "metadata", "spec", "algorithm", "values", "validations"]
_TEXTS = [
    *[
        "",
        "adam",
        "lstm",
        "\x1b[2J",
        "\x9b31m",
        "\u202e",
        "\ud800",
        "ä" * 50,
        "x" * 5000,
        "none",
        "float32",
        "bfloat16",
    ],
    *["int128", "float8_e4m3fn", "object", "<f4", "datetime64[ns]", "V8", "threefry2x32", "rbg", "\0", ".a", "a/b"],
]
_NUMBERS: list[Any] = [
    *[
        0,
        1,
        -1,
        2,
        3,
        7,
        255,
        2**16,
        2**31,
        2**40,
        2**48,
        2**53,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63) - 1,
        10**30,
        10**400,
    ],
    *[0.0, -0.0, 0.5, 1e-300, 1e300, math.nan, math.inf, -math.inf, True, False, None],
]


def damaged(tree: Any, draw: random.Random) -> Any:
    """Change a few places of nested tables and lists."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        places = list(_places(tree))
        if not places:
            return _junk(draw)
        inside, key = draw.choice(places)
        match draw.randrange(6):
            case 0:
                del inside[key]
            case 1 if isinstance(inside, dict):
                inside[draw.choice([*_WORDS, *_TEXTS])] = inside.pop(key)
            case 2 if isinstance(inside, dict):
                inside[draw.choice([*_WORDS, *_TEXTS])] = _junk(draw)
            case 3:
                other, name = draw.choice(places)
                inside[key] = copy.deepcopy(other[name]) if name in other or isinstance(other, list) else None
            case _:
                inside[key] = _junk(draw)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
            yield tree, key
            yield from _places(value)


def _junk(draw: random.Random, depth: int = 0) -> Any:
    match draw.randrange(8 if depth < 3 else 6):
        case 0 | 1:
            return draw.choice(_TEXTS)
        case 2 | 3 | 4:
            return draw.choice(_NUMBERS)
        case 5:
            return draw.randrange(-(2 ** draw.randrange(1, 70)), 2 ** draw.randrange(1, 70))
        case 6:
            return [_junk(draw, depth + 1) for _ in range(draw.randrange(4))]
        case _:
            return {draw.choice([*_WORDS, *_TEXTS]): _junk(draw, depth + 1) for _ in range(draw.randrange(4))}


def damaged_bytes(content: bytes, draw: random.Random, pieces: list[bytes]) -> bytes:
    """Change a few bytes, or put something in, or leave something out."""
    found = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        at, end = sorted(draw.randrange(len(found) + 1) for _ in range(2))
        match draw.randrange(6):
            case 0:
                del found[at:]
            case 1:
                del found[at : min(end, at + 8)]
            case 2:
                found[at:at] = draw.choice(pieces)
            case 3:
                found[at : min(end, at + 8)] = draw.choice(pieces)
            case 4:
                found[at:at] = found[at : min(end, at + 200)]
            case _ if at < len(found):
                found[at] = draw.randrange(256)
            case _:
                found += bytes([draw.randrange(256)])
    return bytes(found)
