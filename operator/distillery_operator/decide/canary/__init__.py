"""A canary: its rules, its evidence, its share of the traffic. Pure."""
