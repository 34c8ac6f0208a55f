"""Keeping runs in order: what stages note of their files, words and notes, removal, checkpoints."""
