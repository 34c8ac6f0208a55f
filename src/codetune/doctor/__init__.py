"""What this machine can train, what is wrong here, and what to do about it. Changes nothing."""
