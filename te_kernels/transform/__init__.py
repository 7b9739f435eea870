"""Layout transforms."""
