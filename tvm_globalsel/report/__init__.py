"""What people see: progress, tables, explanations."""
