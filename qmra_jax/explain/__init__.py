"""Why the network answers as it does in one frame: found out, described, drawn."""
