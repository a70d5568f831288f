"""Atomic writes, and the folders of medzoo."""
