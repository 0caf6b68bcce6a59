"""The specification of a run, one module a field."""
