"""Parts that several benchmarks share: figures, the load client, and the fakes of servers and environments."""
