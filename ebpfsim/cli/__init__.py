"""The command line: one module a command group, each imported when its command is typed."""
