"""Distillery on Kubernetes."""

__version__ = "0.1.0-alpha.2"
