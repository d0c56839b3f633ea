"""Rows of HDF5 files, read by each rank for itself."""
