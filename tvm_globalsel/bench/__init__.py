"""Measuring single kernels against the machine's limits and against other engines (scripts/kernel_peaks)."""
