"""Convolution variants, one file each."""
