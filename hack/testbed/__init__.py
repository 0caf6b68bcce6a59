"""A Kubernetes of one node that is built and run on this machine, for the end-to-end tests."""
