"""The page of a reading study, and the report of its answers."""
