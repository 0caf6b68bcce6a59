"""Distillery: LLM agents that learn from their failures, continuously.

Each package below is a room for one concern, and imports only from rooms below its own. docs/architecture.md draws
them; import-linter checks them. Importing ``core`` or ``cli`` never imports torch.
"""

__version__ = "0.1.0-alpha.2"
