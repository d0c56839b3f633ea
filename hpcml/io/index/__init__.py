"""The side file of a data file: digests and what is known of its rows."""
