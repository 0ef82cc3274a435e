"""What is printed steers no terminal."""

from hypothesis import given, strategies as st

from metaopt._core.files._printable import printable


def test_what_is_printed_as_it_is_stays() -> None:
    assert printable("Grüße, 日本 `['a'][0]` \\ 😀") == "Grüße, 日本 `['a'][0]` \\ 😀"


def test_what_is_not_is_written_out() -> None:
    assert printable("a\x1b[2J\x9b1m\u202e\ud800\0\n") == r"a\x1b[2J\x9b1m\u202e\ud800\x00\n"
    assert printable("a\n\x07b\n", lines=True) == "a\n\\x07b\n"


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_printed(text: str) -> None:
    assert printable(text).isprintable()
    printable(text, lines=True).encode()
