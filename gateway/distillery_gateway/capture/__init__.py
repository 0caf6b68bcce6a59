"""Records of sessions: redacted, and written into a folder for the recorder."""
