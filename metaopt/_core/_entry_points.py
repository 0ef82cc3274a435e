"""What other distributions add to the library."""

from importlib.metadata import entry_points
from typing import Any


BACKENDS = "metaopt.backends"


def offered(group: str) -> dict[str, Any]:
    """The entry points of a group, by name; importing what they name is left to the caller."""
    return {entry.name: entry for entry in entry_points(group=group)}
