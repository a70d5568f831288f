"""What a model has learned of its labels."""
