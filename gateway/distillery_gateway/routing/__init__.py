"""The targets of each name, and the traffic that each target got."""
