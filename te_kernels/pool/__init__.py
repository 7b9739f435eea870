"""Pooling variants."""
