"""Environments: what they are (base), how many are played at once (pool), and openenv, which is anybody's by URL.

ALFWorld and WebShop are distributions of their own, in the folder ``environments`` of the repository.
"""
