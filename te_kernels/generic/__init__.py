"""Operators that are neither convolution, pooling nor dense."""
