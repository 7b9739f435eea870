"""What people do with tuning logs: decide whose records to trust, look, count, merge, prune."""
