"""From failures to hints, and from the bank of hints back into prompts."""
