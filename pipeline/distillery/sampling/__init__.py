"""The choice of the training tasks of later rounds."""
