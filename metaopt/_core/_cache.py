"""Where files are kept that can be made again."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """The folder of this name in `METAOPT_CACHE`, or else in `metaopt` in the user's cache folder.

    That is `XDG_CACHE_HOME`, or else `~/.cache`.
    """
    given, root = os.environ.get("METAOPT_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG_CACHE_HOME asks to ignore a relative path.
    base = Path(root) if os.path.isabs(root) else Path("~/.cache").expanduser()
    return (Path(given) if given else base / "metaopt") / name
