"""The next step of a run: pure functions from what is observed to objects, status and events."""
