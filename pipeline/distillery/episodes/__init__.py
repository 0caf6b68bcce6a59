"""Episodes: a played task, as it is sent, kept and learned."""

from distillery.episodes.episode import CUT, REPORTED, Episode, Turn, build_history

__all__ = ["CUT", "REPORTED", "Episode", "Turn", "build_history"]
