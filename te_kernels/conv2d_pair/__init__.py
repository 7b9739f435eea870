"""Variants that do two operators in one pass, one file each; one of the two at least is a convolution."""
