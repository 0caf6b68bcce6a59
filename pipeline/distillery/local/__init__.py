"""Runs on this machine: the executor, its model servers and its folders."""
