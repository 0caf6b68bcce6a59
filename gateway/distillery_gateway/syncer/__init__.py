"""The syncer: makes the pod's vLLM hold the adapters of the routing document, and reports when it does."""
