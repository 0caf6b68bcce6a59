"""Agents: prompt formats over one type of episode."""

from distillery.agents.base import Agent, Head, Message, Reply, Span, cut, hint_block, without

__all__ = ["Agent", "Head", "Message", "Reply", "Span", "cut", "hint_block", "without"]
