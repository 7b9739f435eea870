"""Model files to Relax."""
