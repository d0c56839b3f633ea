"""Groups of rows around centres."""
