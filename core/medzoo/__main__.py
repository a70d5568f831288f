"""`python -m medzoo`."""

from medzoo.cli.app import main

if __name__ == "__main__":
    main()
