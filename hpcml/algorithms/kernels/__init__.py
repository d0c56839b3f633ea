"""The inner loops: products with the rows of one block. Plain NumPy, one BLAS thread."""
