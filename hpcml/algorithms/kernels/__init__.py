"""The inner loops: passes over the rows of a run of shards, compiled (*.c, *.h) or in NumPy on one BLAS thread."""
