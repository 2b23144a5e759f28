"""Numeric kernels: what they compute, what they cost, and the two libraries that run them."""
