"""Clients of the node, for tests: the API, kubectl, the audit log, objects and schemas."""
