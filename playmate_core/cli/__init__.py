"""The command line, a file a command: ``python -m playmate_core``."""
