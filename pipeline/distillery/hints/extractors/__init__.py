"""The extractors, which turn failed episodes into hints."""
