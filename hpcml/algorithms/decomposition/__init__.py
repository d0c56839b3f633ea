"""Principal components and truncated singular value decompositions of the rows of all ranks."""
