"""Triton kernels for NVIDIA GPUs, each the fast twin of a plain computation in the file of its name one folder up."""
