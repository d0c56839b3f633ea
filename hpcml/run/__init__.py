"""The order of events in a job: the place that wires the rooms together."""
