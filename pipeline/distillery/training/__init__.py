"""From kept episodes to a student."""
