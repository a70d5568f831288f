"""What every job shares: its record run.json, its identity, and its progress."""
