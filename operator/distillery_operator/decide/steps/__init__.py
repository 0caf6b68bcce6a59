"""The steps of a decision: each is a pure function from the context to the changes that it makes."""
