"""Node-local storage for the rows that a node needs."""
