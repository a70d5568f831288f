"""The callback through which jobs report their progress."""

from typing import Protocol


class Progress(Protocol):
    """A function to call with how many of how many steps are done, the first time before any is.

    Steps are images, tasks, optimizer steps or bytes. Training adds the losses as `note`, a download the file.
    """

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Note that `done` of `total` steps are done."""


def no_progress(done: int, total: int, note: str = "", /) -> None:
    """Ignore the progress of a job."""
