"""What a run found, as a page, a table and JSON."""
