"""The `qmra` command."""
