"""The extractors: from failed episodes to hints."""
