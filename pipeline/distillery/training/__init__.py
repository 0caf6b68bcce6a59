"""The training of students from kept episodes."""
