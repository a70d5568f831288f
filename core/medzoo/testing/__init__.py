"""The conformance kit: whether a plugin's models keep the contract, told in seconds from their `tiny` preset.

A plugin's own test suite needs two lines: `from medzoo.testing import assert_generator` and `assert_generator(SPEC)`.
"""

from medzoo.testing.generators import assert_generator, check_generator
from medzoo.testing.results import CheckResult

__all__ = ["CheckResult", "assert_generator", "check_generator"]
