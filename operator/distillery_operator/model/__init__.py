"""Facts about a run and the results of thinking about it: types without logic."""
