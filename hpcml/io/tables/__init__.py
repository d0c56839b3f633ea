"""Tables as they are stored: CSV, Parquet, NumPy, JSON lines, libsvm."""
