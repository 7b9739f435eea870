"""Benchmarks: single kernels (scripts/kernel_peaks) and whole networks (globalsel bench) against other engines."""
