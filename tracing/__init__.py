"""Kernel functions and what observes them. So far: the trace pipe."""
