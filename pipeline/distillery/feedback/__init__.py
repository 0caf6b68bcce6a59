"""The sessions of users: recorded next to a gateway, and read back as episodes that a round learns from."""
