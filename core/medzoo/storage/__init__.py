"""Files written atomically, and the folders medzoo keeps things in."""
