"""Parts of episodes that tests store and do not read."""

from __future__ import annotations

from distillery.agents import PromptPrefix

PREFIX = PromptPrefix(({"role": "user", "content": "hello"},))
