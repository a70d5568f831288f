"""`python -m medzoo`."""

from medzoo.cli import main

if __name__ == "__main__":
    main()
