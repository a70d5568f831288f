"""The callback through which jobs report their progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how many of how many steps are done (images, tasks, bytes), the first time before any is."""


def no_progress(done: int, total: int) -> None:
    """Ignore the progress of a job."""
