"""The clients: their keys and the limits of each key."""
