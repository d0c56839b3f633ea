"""Tables become one HDF5 file."""
