"""What is measured against what: the PyTorch twin of the network, and the benchmarks."""
