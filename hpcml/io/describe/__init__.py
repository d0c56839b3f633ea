"""What an HDF5 file holds, from its metadata, and what to do about it."""
