"""The documents that cross from one process to another, one type each."""
