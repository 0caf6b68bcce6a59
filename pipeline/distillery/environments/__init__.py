"""Environments: what they are (base), how many are played at once (pool), and those that ship.

These are alfworld, webshop, and openenv, which is anybody's by URL.
"""
