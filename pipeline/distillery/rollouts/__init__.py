"""The play of episodes: many together, with any OpenAI-compatible server."""
