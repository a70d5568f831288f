"""The conformance kit: whether a plugin's models keep the contract, told in seconds from their `tiny` preset.

A plugin's own test suite needs two lines: `from medzoo.testing import assert_generator` and `assert_generator(SPEC)`,
or the same with `assert_classifier`.
"""

from medzoo.testing.classifiers import assert_classifier, check_classifier
from medzoo.testing.generators import assert_generator, check_generator
from medzoo.testing.results import CheckResult

__all__ = ["CheckResult", "assert_classifier", "assert_generator", "check_classifier", "check_generator"]
