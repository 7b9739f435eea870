"""Variants that do two convolutions in one pass, one file each."""
