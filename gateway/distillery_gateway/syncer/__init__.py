"""The syncer: makes the vLLM beside it hold the adapters that are desired, and says when it does."""
