"""Agents: prompt formats over one type of episode."""

from distillery.agents.base import Agent, Head, Message, Reply, Span, cut, hint_block, without
from distillery.agents.episode import Episode, Turn, history

__all__ = ["Agent", "Episode", "Head", "Message", "Reply", "Span", "Turn", "cut", "hint_block", "history", "without"]
