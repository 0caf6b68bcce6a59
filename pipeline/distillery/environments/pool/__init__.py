"""Environments played at once: processes, and the sessions in them."""
