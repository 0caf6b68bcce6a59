"""Agents: prompt formats over one type of episode."""

from distillery.agents.base import Agent, PromptPrefix, Reply, Span, cut_at_stop, format_hint_block, remove_spans
from distillery.core.contracts.messages import Message

__all__ = ["Agent", "Message", "PromptPrefix", "Reply", "Span", "cut_at_stop", "format_hint_block", "remove_spans"]
