"""Numba kernels of the training step on the CPU, each with its backward pass."""
