"""The components of Kubernetes: command lines, certificates, readiness, and the provisioner of volumes."""
