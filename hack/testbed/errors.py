"""What can go wrong with the node, in words for the person who runs the tests."""


class ClusterError(Exception):
    """The node can't do what was asked; the message says why and shows the end of the log that knows more."""
