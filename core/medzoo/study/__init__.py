"""Blinded reading studies: which images and questions, what readers answered, and what follows from it."""
