"""Scenarios: a YAML file that builds hosts, loads programs, sends packets and says what must come of it."""
