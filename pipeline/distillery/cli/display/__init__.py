"""The terminal: a run's progress and an overview of all runs."""
