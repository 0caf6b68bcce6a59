"""The API server: objects, watches and the election of a leader."""
