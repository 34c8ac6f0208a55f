"""Measuring models: losses, generations, paired statistics and the report a person reads."""
