"""The manifests of a run's objects: pure functions from the resource to dicts."""
