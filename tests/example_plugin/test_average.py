"""The whole test of a plugin: it keeps medzoo's contract."""

import medzoo_average

from medzoo.testing import generator_checks

(SPEC,) = medzoo_average.register_generators()


@generator_checks(SPEC)
def test_contract(check):
    check()
