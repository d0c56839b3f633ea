import re
from pathlib import Path

project = "hpcml"
author = "hpcml developers"
project_copyright = "2026, hpcml developers"
# Read, not imported: building the text needs no MPI, HDF5 or compiler.
_source = Path(__file__).parent.parent.joinpath("hpcml", "__init__.py").read_text(encoding="utf-8")
release = version = re.search(r'^__version__ = "([^"]+)"', _source, re.MULTILINE).group(1)

extensions = ["sphinx.ext.autodoc", "numpydoc"]
autodoc_mock_imports = ["mpi4py"]
numpydoc_show_class_members = False
exclude_patterns = ["_build"]
html_theme = "alabaster"
nitpicky = False
