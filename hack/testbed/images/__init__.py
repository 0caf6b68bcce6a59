"""Images without a registry: builds by buildah, stand-ins for public bases, and the way into the node."""
