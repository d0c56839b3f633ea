"""Rows of an HDF5 file written as a table."""
