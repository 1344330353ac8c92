"""Reports of what happened: words and tables, JSON, captures."""
