import numpy as np

from metaopt.bench.fewshot._continual import _Found, _ratios


def test_a_method_that_loses_half_on_one_family_of_two():
    joint = [_Found(np.asarray([1.0, 2.0]), None, 0.0), _Found(np.asarray([1.0, 4.0]), None, 0.0)]
    ours = [_Found(np.asarray([1.0, 4.0]), None, 0.0), _Found(np.asarray([1.0, 4.0]), None, 0.0)]
    np.testing.assert_allclose(_ratios(ours, joint), [0.5**0.5, 1.0])
