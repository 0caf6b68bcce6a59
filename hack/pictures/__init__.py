"""The pictures of the documentation that come from data and from runs."""
