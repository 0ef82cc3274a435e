"""Text from the surroundings of a process, made fit for a terminal and for strangers."""

import os


_LONGEST = 300
_SECRET = ("COORDINATOR", "KEY", "PASSWORD", "SECRET", "TOKEN")


def plain(given: object) -> str:
    """Printable ASCII on one line: control characters are escaped, and the user's home folder is `~`."""
    text, home = str(given), os.path.expanduser("~")
    if os.path.isabs(home) and home != os.sep:
        text = text.replace(home, "~")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def variable(name: str, value: str) -> str:
    """The value of an environment variable, unless it names hosts or is a secret."""
    return "(set)" if any(word in name.upper() for word in _SECRET) else plain(value)
