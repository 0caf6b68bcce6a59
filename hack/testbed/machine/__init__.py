"""The machine below the node: processes, mounts, network, packages, and the programs that are built for it."""
