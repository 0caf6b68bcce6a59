"""Who runs the stages that the planner names. Here: this machine."""
