"""Imports `workq` from its Python sources even where it is compiled: in machine code no line can be seen to run."""

import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "workq"


def import_sources() -> None:
    """Do so from now on, in this process. It must be called before anything of `workq` is imported."""
    assert not [name for name in sys.modules if name.startswith("workq.")]
    sys.path_hooks.insert(0, _find_sources)
    sys.path_importer_cache.clear()


def _find_sources(directory: str) -> FileFinder:
    if not Path(directory).is_relative_to(PACKAGE):
        raise ImportError("not ours")
    return FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES))
