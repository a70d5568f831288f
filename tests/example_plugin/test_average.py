"""The whole test of a plugin: it keeps medzoo's contract."""

import medzoo_average

from medzoo.testing import assert_generator


def test_average_keeps_the_contract():
    (spec,) = medzoo_average.register_generators()
    assert_generator(spec)
