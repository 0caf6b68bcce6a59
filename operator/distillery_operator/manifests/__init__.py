"""What the operator makes for a run, as manifests: pure functions from the resource to dicts."""
