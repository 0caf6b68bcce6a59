"""The syncer: makes the pod's vLLM hold the adapters that are desired, and says when it does."""
