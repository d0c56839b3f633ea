"""The mathematics: losses, objectives, solvers, certificates, metrics."""
