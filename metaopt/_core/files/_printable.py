"""Text from files and from others, for terminals."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Write all that is not printed as it is, such as the sequences that steer a terminal, as Python would: `\x1b`.

    **Arguments:**

    - `text`: any text, half characters included.
    - `lines`: whether the text may have many lines. A name may not.
    """
    if lines:
        return "\n".join(map(printable, text.split("\n")))
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
