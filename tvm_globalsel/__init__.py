"""Exact global selection."""
