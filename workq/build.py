"""Which build of the hot rooms runs: compiled by mypyc (`setup.py`), or the same sources as they are.

Where both are there the compiled one is taken, unless the environment says ``WORKQ_PURE=1``.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType

PURE_VARIABLE = "WORKQ_PURE"


class _Sources:
    """An import finder that knows only the Python sources of this package."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith("workq."):
            return None
        finders = [FileFinder(entry, (SourceFileLoader, SOURCE_SUFFIXES)) for entry in path]
        return next((spec for finder in finders if (spec := finder.find_spec(name)) is not None), None)


def choose() -> None:
    """Obey ``WORKQ_PURE``. To be called before anything else of the package is imported."""
    if os.environ.get(PURE_VARIABLE) == "1":
        sys.meta_path.insert(0, _Sources)


def is_compiled() -> bool:
    """Whether the compiled build is the one that runs."""
    spec = find_spec("workq.engine.engine")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(tuple(SOURCE_SUFFIXES))
