"""Assistant logs: one reader per source, sessions in memory, turns, rows."""
