"""What every job shares: its arguments, its record run.json, its identity, and its progress."""
