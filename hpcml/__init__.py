"""hpcml: rank-free machine learning on supercomputers."""

__version__ = "0.1.0"
