"""Files that `medzoo export` copies into the folders it writes: they need no medzoo, and medzoo imports none."""
