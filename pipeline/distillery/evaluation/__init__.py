"""The evaluation of arms: intervals, paired tests, and the gate."""
