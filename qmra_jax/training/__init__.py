"""What train.py is made of: steps, losses, devices, checkpoints, validation."""
