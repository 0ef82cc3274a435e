"""Places of a spec are changed by text."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from metaopt.spec import SpecError, dumps, override


SPEC = {"learner": {"name": "chain", "stages": ["adam", {"name": "clip", "limit": 1.0}]}, "steps": 3, "grid": [[1, 2]]}


@pytest.mark.parametrize(
    ("assignment", "wanted"),
    [
        ("steps=4", {"steps": 4}),
        (" steps = 1e-3 # small", {"steps": 1e-3}),
        ("steps=", {"steps": ""}),
        ("steps=true", {"steps": True}),
        ("steps=True", {"steps": "True"}),
        ("steps=a=b", {"steps": "a=b"}),
        ('steps="4"', {"steps": "4"}),
        ("steps=adam", {"steps": "adam"}),
        ("steps=none", {"steps": "none"}),
        ("steps=2020-01-01", {"steps": "2020-01-01"}),
        ("steps=#fff", {"steps": "#fff"}),
        ("steps=1\nlearner=2", {"steps": "1\nlearner=2"}),
        ("steps=[1, {a = 2}]", {"steps": [1, {"a": 2}]}),
        ("steps={name = 'x'}", {"steps": {"name": "x"}}),
        ("grid[0][1]=5", {"grid": [[1, 5]]}),
        ("new.deep.key=1", {"new": {"deep": {"key": 1}}}),
        ('new."a.b [0]"=1', {"new": {"a.b [0]": 1}}),
        ('""=1', {"": 1}),
        ("learner=sgd", {"learner": "sgd"}),
        (
            "learner.stages[1].limit=2",
            {"learner": {"name": "chain", "stages": ["adam", {"name": "clip", "limit": 2}]}},
        ),
        (
            "learner.stages[0].rate=2",
            {"learner": {"name": "chain", "stages": [{"name": "adam", "rate": 2}, {"name": "clip", "limit": 1.0}]}},
        ),
    ],
)
def test_assignments(assignment: str, wanted: dict[str, Any]) -> None:
    before = dumps(SPEC)
    assert override(SPEC, [assignment]) == SPEC | wanted
    assert dumps(SPEC) == before


def test_several_in_their_order() -> None:
    assert override({}, ["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}
    assert override(SPEC, []) == SPEC


@pytest.mark.parametrize(
    ("assignment", "wanted"),
    [
        ("steps", "expected `path.to.option=value`, given 'steps'."),
        ("=3", "expected `path.to.option=value`, given '=3'."),
        ("a..b=3", "expected `path.to.option=value`, given 'a..b=3'."),
        ("[0]=3", "expected `path.to.option=value`, given '[0]=3'."),
        ("a[-1]=3", "expected `path.to.option=value`, given 'a[-1]=3'."),
        ("a b=3", "expected `path.to.option=value`, given 'a b=3'."),
        ("learner.stages[2].limit=3", "learner.stages: there is no [2] in a list of 2, which are counted from [0]."),
        ("steps.a=3", "steps: expected a table, which could have a `a`, given 3."),
        ("grid.a=3", "grid: expected a table, which could have a `a`, given [[1, 2]]."),
        ("steps[0]=3", "steps: expected a list, which would have a [0], given 3."),
        ("new[0]=3", "new: expected a list, which would have a [0], given None."),
    ],
)
def test_wrong_assignments(assignment: str, wanted: str) -> None:
    with pytest.raises(SpecError) as caught:
        override(SPEC, [assignment])
    assert str(caught.value) == wanted


@given(st.lists(st.text(max_size=12) | st.from_regex(r"[a-c\[\]0-9.\"]{1,8}=[^\n]{0,6}", fullmatch=True), max_size=3))
def test_any_text_is_an_assignment_or_a_spec_error(assignments: list[str]) -> None:
    try:
        assert isinstance(override(SPEC, assignments), dict)
    except SpecError as error:
        assert str(error)
