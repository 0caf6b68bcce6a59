"""The executor of the stages that the planner names: this machine."""
