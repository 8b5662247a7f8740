"""The network's array operations, each in its fastest form."""
