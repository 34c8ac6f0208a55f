"""Questions to the run database, and their answers as tables."""
