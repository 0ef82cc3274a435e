"""Text of made-up languages."""

import functools as ft

import numpy as np

from .._common import Split
from ._dataset import Dataset


ALPHABET = "abcdefghijklmnopqrstuvwxyz ."
_LENGTH = 20000
_WORDS = 300
_FOLLOWERS = 12


@ft.cache
def text(split: Split) -> Dataset:
    """Characters of a language that is made up, as numbers below 28. The two splits are different languages.

    Words are a few syllables. How often they come falls with their rank, as in Zipf's law; each is followed by one of
    few others; a sentence has four to twelve.
    """
    draw = np.random.RandomState(0 if split == "train" else 1)
    words = _lexicon(draw)
    frequency = 1 / np.arange(1, len(words) + 1)
    frequency /= frequency.sum()
    followers = [draw.choice(len(words), _FOLLOWERS, replace=False, p=frequency) for _ in words]
    pieces, length = [], 0
    while length < _LENGTH:
        word = draw.choice(len(words), p=frequency)
        sentence = [word]
        for _ in range(draw.randint(3, 12)):
            word = draw.choice(followers[word])
            sentence.append(word)
        pieces.append(" ".join(words[i] for i in sentence) + ". ")
        length += len(pieces[-1])
    codes = [ALPHABET.index(letter) for letter in "".join(pieces)[:_LENGTH]]
    return Dataset(f"text/{split}", codes=np.asarray(codes, np.int32))


def _lexicon(draw: np.random.RandomState) -> list[str]:
    """Words of one to three syllables out of a stock of sixty."""
    consonants, vowels = [c for c in ALPHABET[:26] if c not in "aeiou"], list("aeiou")
    syllables = [draw.choice(consonants) + draw.choice(vowels) + draw.choice(["", "n", "s", "r"]) for _ in range(60)]
    words: dict[str, None] = {}
    while len(words) < _WORDS:
        words["".join(draw.choice(syllables, draw.randint(1, 4)))] = None
    return list(words)
