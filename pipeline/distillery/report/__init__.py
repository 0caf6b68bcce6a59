"""What a run found out, as data and as a page."""
