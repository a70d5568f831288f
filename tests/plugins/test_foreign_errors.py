"""Errors of foreign code in one line."""

from __future__ import annotations

import json
import re

import torch

from medzoo.errors import DataError
from medzoo.plugins.foreign_errors import failure, raised_at


def caught(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    raise AssertionError("nothing was raised")


def test_failure_names_the_plugin_line():
    error = caught(lambda: torch.zeros(2) @ torch.zeros(3))
    assert re.fullmatch(r"RuntimeError: .* \(plugins/test_foreign_errors\.py:\d+\)", failure(error))
    assert re.fullmatch(r"plugins/test_foreign_errors\.py:\d+", raised_at(caught(lambda: json.loads("{"))))


def test_failure_medzoo_error_keeps_its_message():
    def refuse():
        raise DataError("no images", "give some")

    assert failure(caught(refuse)) == "no images (give some)"


def test_failure_single_line_without_location():
    assert failure(ValueError("two\nlines")) == "ValueError: two lines"
