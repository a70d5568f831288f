"""The conformance kit: whether a plugin's models keep the contract, told in seconds from their `tiny` preset.

A plugin's own test suite needs two lines: `from medzoo.testing import assert_generator` and `assert_generator(SPEC)`,
or the same with `assert_classifier`, `assert_metric` or `assert_extractor`.
"""

from medzoo.testing.classifiers import assert_classifier, check_classifier
from medzoo.testing.extractors import assert_extractor, check_extractor
from medzoo.testing.generators import assert_generator, check_generator
from medzoo.testing.metrics import assert_metric, check_metric
from medzoo.testing.results import CheckResult

__all__ = [
    "CheckResult",
    "assert_classifier",
    "assert_extractor",
    "assert_generator",
    "assert_metric",
    "check_classifier",
    "check_extractor",
    "check_generator",
    "check_metric",
]
