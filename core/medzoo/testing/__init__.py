"""The conformance kit: whether a plugin's models keep the contract, checked in seconds with their `tiny` preset.

As tests of a plugin's own, one for each check, with pytest:

```python
from medzoo.testing import generator_checks

@generator_checks(SPEC)
def test_the_contract(check):
    check()
```

`assert_generator(SPEC)` makes all checks at once, `check_generator(SPEC)` gives the results; and so for classifiers,
metrics and, with `assert_extractor` and `check_extractor`, for extractors. A plugin's own tests of `fit` can take what
the kit takes: `fit(FakeImages(image), seed=0, callback=run, checkpoints=run)`, where `run` is a `RecordingCallback()`
and `image` an ImageSpec of the three `CLASSES`.
"""

from medzoo.testing.classifiers import assert_classifier, check_classifier, classifier_checks
from medzoo.testing.extractors import assert_extractor, check_extractor
from medzoo.testing.fakes import CLASSES, FakeImages, PlainImages
from medzoo.testing.generators import assert_generator, check_generator, generator_checks
from medzoo.testing.metrics import assert_metric, check_metric, metric_checks
from medzoo.testing.recording_callback import RecordingCallback
from medzoo.testing.suite import Check, CheckResult

__all__ = [
    "CLASSES",
    "Check",
    "CheckResult",
    "FakeImages",
    "PlainImages",
    "RecordingCallback",
    "assert_classifier",
    "assert_extractor",
    "assert_generator",
    "assert_metric",
    "check_classifier",
    "check_extractor",
    "check_generator",
    "check_metric",
    "classifier_checks",
    "generator_checks",
    "metric_checks",
]
