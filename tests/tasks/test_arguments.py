"""Bad arguments end in an error that says what was given, what was wanted, and what to do."""

from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest

from metaopt.tasks import (
    ConvolutionalNetwork,
    DenseNetwork,
    DigitsConv,
    DigitsMLP,
    Mnist1D,
    Normalized,
    Quadratics,
    Rastrigin,
    ReducedBatch,
    Reparametrized,
    Rescaled,
    Rosenbrock,
    Sinusoids,
    SparseCoding,
    TeacherStudent,
)


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """As users run: without the type checks of the tests, which come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


ONE = "`{}` must be a finite number of at least 1, but 0 was given."
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (Quadratics, dict(dimension=0), ONE.format("dimension")),
    (Quadratics, dict(dimension=1, condition=2.0), "`dimension` must be a finite number of at least 2, but 1"),
    (Quadratics, dict(condition=0.5), "`condition` must be a finite number of at least 1, but 0.5"),
    (Quadratics, dict(condition=float("nan")), "`condition` must be a finite number of at least 1, but nan"),
    (Quadratics, dict(condition=float("inf")), "`condition` must be a finite number of at least 1, but inf"),
    (Quadratics, dict(shared_basis=True), "`shared_basis` needs a `condition`"),
    (Rosenbrock, dict(dimension=1), "`dimension` must be a finite number of at least 2, but 1"),
    (Rosenbrock, dict(smallest=0.0), "`smallest` must be a finite number above 0, but 0.0"),
    (Rosenbrock, dict(smallest=5.0, largest=4.0), "`largest` must be a finite number of at least 5.0, but 4.0"),
    (Rastrigin, dict(dimension=0), ONE.format("dimension")),
    (Rastrigin, dict(amplitude=-1.0), "`amplitude` must be a finite number of at least 0, but -1.0"),
    (TeacherStudent, dict(sizes=(8,)), "`sizes` must be a tuple of at least 2 positive integers, but (8,) was"),
    (TeacherStudent, dict(sizes=(8, 0, 4)), "but (8, 0, 4) was given. Write one size per layer, such as"),
    (TeacherStudent, dict(batch_size=0), ONE.format("batch_size")),
    (TeacherStudent, dict(evaluation_size=0), ONE.format("evaluation_size")),
    (TeacherStudent, dict(teacher_scale=0.0), "`teacher_scale` must be a finite number above 0"),
    (TeacherStudent, dict(start_scale=float("inf")), "`start_scale` must be a finite number above 0"),
    (TeacherStudent, dict(activation="sigmod"), "`activation` must be one of 'elu', 'gelu', 'relu'"),
    (Sinusoids, dict(shots=0), ONE.format("shots")),
    (Sinusoids, dict(queries=0), ONE.format("queries")),
    (Sinusoids, dict(hidden=(40, -1)), "`hidden` must be a tuple of positive integers, but (40, -1) was given"),
    (SparseCoding, dict(rows=0), ONE.format("rows")),
    (SparseCoding, dict(columns=0), ONE.format("columns")),
    (SparseCoding, dict(density=0.0), "`density` must be a finite number above 0, but 0.0"),
    (SparseCoding, dict(density=1.5), "`density` is a probability, but 1.5 was given"),
    (SparseCoding, dict(snr_db=float("nan")), "`snr_db` must be a finite number above -inf, but nan"),
    (SparseCoding, dict(weight=-0.1), "`weight` must be a finite number of at least 0, but -0.1"),
    (SparseCoding, dict(condition=0.5), "`condition` must be a finite number of at least 1, but 0.5"),
    (SparseCoding, dict(seed=-1), "`seed` must be a finite number of at least 0, but -1"),
    (SparseCoding, dict(signal="gradiant"), "`signal` must be one of 'gradient', 'residual', but 'gradiant'"),
    (DigitsMLP, dict(split="test"), "`split` must be one of 'train', 'held_out', but 'test' was given"),
    (DigitsMLP, dict(hidden=[32]), "`hidden` must be a tuple of positive integers, but [32] was given"),
    (DigitsMLP, dict(hidden=32), "`hidden` must be a tuple of positive integers, but 32 was given"),
    (DigitsMLP, dict(batch_size=0), ONE.format("batch_size")),
    (DigitsMLP, dict(activation="Relu"), "but 'Relu' was given"),
    (DigitsConv, dict(channels=()), "`channels` must be a tuple of at least 1 positive integers, but () was"),
    (DigitsConv, dict(split="validation"), "but 'validation' was given"),
    (DigitsConv, dict(batch_size=0), ONE.format("batch_size")),
    (Mnist1D, dict(split="test"), "`split` must be one of"),
    (Mnist1D, dict(hidden=(1.5,)), "but (1.5,) was given"),
    (Mnist1D, dict(batch_size=0), ONE.format("batch_size")),
    (Normalized, dict(inner=Quadratics(), starts=0), ONE.format("starts")),
    (Normalized, dict(inner=Quadratics(), floor=float("nan")), "`floor` must be a finite number, but nan was given"),
    (Reparametrized, dict(inner=Quadratics(), level="layer"), "`level` must be one of 'global', 'tensor', 'parameter'"),
    (Reparametrized, dict(inner=Quadratics(), low=0.0), "`low` and `high` must satisfy 0 < low <= high, but 0.0"),
    (Rescaled, dict(inner=Quadratics(), low=2.0, high=1.0), "must satisfy 0 < low <= high, but 2.0 and 1.0 were"),
    (ReducedBatch, dict(inner=Quadratics(), fraction=0.0), "`fraction` must be above 0 and at most 1, but 0.0"),
    (DenseNetwork, dict(sizes=(3,)), "`sizes` must be a tuple of at least 2"),
    (ConvolutionalNetwork, dict(side=0, channels=(3,), outputs=10), "positive integers, but (0, 10) was given"),
]


@pytest.mark.parametrize(("make", "options", "text"), BAD, ids=[text[:60] for _, _, text in BAD])
def test_bad_argument(make: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        make(**options)
    assert text in str(caught.value)
