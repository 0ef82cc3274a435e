"""Scripts of the documents, which are no package, as modules."""

import importlib.util
import sys
from pathlib import Path
from typing import Any


DOCS = Path(__file__).parent.parent / "docs"


def script(name: str) -> Any:
    """A script by its path in `docs`."""
    spec = importlib.util.spec_from_file_location(f"docs_{Path(name).stem}", DOCS / name)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
