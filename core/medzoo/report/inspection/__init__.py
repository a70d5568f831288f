"""The figures and tables of `medzoo inspect`."""
