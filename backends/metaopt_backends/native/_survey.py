"""What is to be said of a folder of kernels."""

import importlib.metadata
import os
import pathlib

from metaopt._core.files._cache import private_folder, read_private

from ._compile import LARGEST, LARGEST_NOTE, digest_of, why


def survey(folder: pathlib.Path) -> str:
    """One line on a folder of kernels: how many, how large, of another jaxlib, damaged, refused; or why it is not used.

    Nothing is made or changed.
    """
    if not os.path.lexists(folder):
        return "nothing yet"
    try:
        with private_folder(folder) as number:
            mode = folder.stat().st_mode & 0o7777
            return f"{_contents(folder, number)}; mode {mode:04o}, ours"
    except OSError as error:
        return f"NOT USED: {why(error)}"


def _contents(folder: pathlib.Path, number: int) -> str:
    version = f"jaxlib {importlib.metadata.version('jaxlib')}"
    size, stale, damaged, kernels = 0, 0, 0, sorted(folder.glob("*.so"))
    for path in kernels:
        try:
            content, note = (read_private(number, f"{path.stem}.{ending}", LARGEST) for ending in ("so", "sha256"))
        except OSError:
            content = note = None
        seal, made, *_ = [*(note or b"").decode(errors="replace").split("\n"), "", ""]
        size += len(content or b"")
        damaged += content is None or seal != digest_of(content)
        stale += bool(made) and made != version
    verdicts = [_verdict(number, path.name) for path in folder.glob("*.verdict")]
    refused = [text for text in verdicts if text != "ok"]
    parts = [
        f"{len(kernels)} kernels, {size / 2**20:.1f} MiB",
        *([f"{stale} of another jaxlib, never used again"] if stale else []),
        *([f"{damaged} damaged, to be compiled again"] if damaged else []),
        f"{len(verdicts)} verdicts, {len(refused)} against a kernel",
        *sorted({f"such as `{text}`" for text in refused[:1]}),
    ]
    return ", ".join(parts)


def _verdict(number: int, name: str) -> str:
    try:
        return (read_private(number, name, LARGEST_NOTE) or b"").decode(errors="replace").partition("\n")[2]
    except OSError as error:
        return why(error)
