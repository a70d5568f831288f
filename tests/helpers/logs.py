"""The messages that medzoo logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def logged_messages(name: str = "medzoo", *, level: int = logging.INFO) -> Iterator[list[str]]:
    """A list that fills with what the logger `name` and those below it log, from `level` on."""
    logger, handler = logging.getLogger(name), _Messages()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
