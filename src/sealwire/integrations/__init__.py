"""Foreign systems, one file for each, each behind an extra of its own."""
