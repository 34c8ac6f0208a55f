"""Alembic migrations of the run database; `versions/` holds one file per revision."""
