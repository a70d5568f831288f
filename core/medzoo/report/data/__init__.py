"""The report of `medzoo data check`."""
