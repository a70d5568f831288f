"""Labeled image sets: reading, decoding, splitting, and checking them."""
