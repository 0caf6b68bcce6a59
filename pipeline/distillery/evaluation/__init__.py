"""Judging: intervals, paired tests, the gate."""
