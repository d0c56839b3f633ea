"""The inner loops: passes over the rows of a run of shards, in C or in NumPy with one BLAS thread."""
