"""Serving a model with vLLM on this machine."""
