"""Environments: what they are (base), how many are played at once (pool), and the one that ships (alfworld)."""
