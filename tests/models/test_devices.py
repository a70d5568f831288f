"""Devices and the memory of this process."""

from __future__ import annotations

import platform

from medzoo.models.devices import keep_freed_memory


def test_keep_freed_memory_on_glibc_only():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
