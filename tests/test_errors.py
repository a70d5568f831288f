import pytest
from helpers.memory import ERRORS

from medzoo.errors import (
    ConfigError,
    DataError,
    HubError,
    IntegrityError,
    MedzooError,
    PluginError,
    ResourceError,
    UnknownName,
    memory_errors,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigError, 2), (PluginError, 3), (HubError, 4), (IntegrityError, 4), (DataError, 5), (ResourceError, 6)],
)
def test_medzoo_error_exit_code_message_and_hint(kind, code):
    error = kind("what happened", "what to do")
    assert isinstance(error, MedzooError)
    assert (error.exit_code, error.message, error.hint) == (code, "what happened", "what to do")
    assert str(error) == "what happened (what to do)"


def test_unknown_name_suggests_nearest():
    error = UnknownName("generator", "dppm", ["ddpm", "classic"])
    assert error.exit_code == 2
    assert error.message == "unknown generator 'dppm'"
    assert error.hint == "did you mean ddpm?"


def test_unknown_name_without_match_lists_all():
    assert UnknownName("generator", "zzz", ["b", "a"]).hint == "known: a, b"
    assert UnknownName("generator", "zzz", []).hint == "known: none"


@pytest.mark.parametrize("name", ERRORS)
def test_memory_errors(name):
    told = r"^out of memory training 'cnn' \(lower image.size\)$"
    with pytest.raises(ResourceError, match=told) as raised, memory_errors("training 'cnn'", "lower image.size"):
        raise ERRORS[name]
    assert raised.value.__cause__ is ERRORS[name]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("the size of tensor a (3) must match"), OSError(2, "No such file"), DataError("out of memory")],
)
def test_memory_errors_of_other_kinds(error):
    with pytest.raises(type(error)) as raised, memory_errors("training", "lower it"):
        raise error
    assert raised.value is error
