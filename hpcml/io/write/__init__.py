"""HDF5 files written by all ranks without parallel HDF5."""
