"""Hints: extracted from failures, kept in a bank, and retrieved for prompts."""
