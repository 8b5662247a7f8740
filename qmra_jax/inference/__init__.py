"""A video through the network, frame by frame: memory, objects that come and go, prompts."""
