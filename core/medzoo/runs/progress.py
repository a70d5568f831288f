"""Who is told how far a job has come."""

from collections.abc import Callable

Watch = Callable[[int, int], None]
"""Told how many of how many are done (pictures drawn, images looked at), the first time before anything is."""


def unwatched(done: int, total: int) -> None:
    """Nothing; where nobody watches."""
