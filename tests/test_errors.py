import pytest

from medzoo.errors import (
    ConfigError,
    DataError,
    HubError,
    IntegrityError,
    MedzooError,
    PluginError,
    ResourceError,
    UnknownName,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigError, 2), (PluginError, 3), (HubError, 4), (IntegrityError, 4), (DataError, 5), (ResourceError, 6)],
)
def test_each_kind_has_its_exit_code_and_keeps_message_and_hint(kind, code):
    error = kind("what happened", "what to do")
    assert isinstance(error, MedzooError)
    assert (error.exit_code, error.message, error.hint) == (code, "what happened", "what to do")
    assert str(error) == "what happened (what to do)"


def test_an_unknown_name_offers_the_nearest_spelling():
    error = UnknownName("generator", "dppm", ["ddpm", "classic"])
    assert error.exit_code == 2
    assert error.message == "unknown generator 'dppm'"
    assert error.hint == "did you mean ddpm?"


def test_an_unknown_name_like_no_other_gets_all_names():
    assert UnknownName("generator", "zzz", ["b", "a"]).hint == "known: a, b"
    assert UnknownName("generator", "zzz", []).hint == "known: none"
