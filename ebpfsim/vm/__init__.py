"""The reference interpreter: programs as predecoded closures, the oracle for every other engine."""
