"""Keeping runs in order: words and notes, removal, checkpoints, and the database made anew."""
