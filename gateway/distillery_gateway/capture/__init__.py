"""Sessions that are kept: redacted, and left in a folder for the recorder."""
