"""Playing episodes: many at once, against any OpenAI-compatible server."""
