"""Entries are written as TOML that says the same."""

from __future__ import annotations

import tomllib

import pytest

from medzoo.hub.registry_file import to_toml


@pytest.mark.parametrize(
    "value",
    ["plain", 'a "quoted" \\ path', "two\nlines\r\n\tand\x00\x1b\x7f\x9b", "Ödem 胸", True, 3, 0.5, ["a", 'b"'], []],
)
def test_to_toml_round_trip(value):
    assert tomllib.loads(f"value = {to_toml(value)}")["value"] == value
