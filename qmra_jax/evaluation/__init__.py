"""What evaluate.py is made of: sequences over devices, results that can be gone on with, zips."""
