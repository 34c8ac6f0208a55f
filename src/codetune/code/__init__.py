"""From source trees to training rows: listing, file selection, spans. Sources are only read."""
