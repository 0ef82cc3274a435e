from pathlib import Path

import pytest

from metaopt.registry import DEFAULT
from metaopt.runs import Evaluation, Run, find, names
from metaopt.spec import SpecError, build, dumps, normalize, read

from .specs import evaluated, small


@pytest.mark.parametrize("name", names())
def test_runs_that_come_with_metaopt_can_be_built(name):
    pytest.importorskip("sklearn")
    spec = read(find(name))
    run = build(spec, Run, registry=DEFAULT)
    assert run.description and (run.evaluation is not None or run.validation is not None)


@pytest.mark.parametrize("spec", [small(), evaluated()], ids=["small", "evaluated"])
def test_a_spec_survives_being_written_out(spec, tmp_path):
    explicit = normalize(spec, Run, registry=DEFAULT)
    file = tmp_path / "spec.toml"
    file.write_text(dumps(explicit))
    assert read(file) == explicit
    assert normalize(read(file), Run, registry=DEFAULT) == explicit


def test_find_knows_names_and_paths():
    assert find("quickstart").name == "quickstart.toml" and find("quickstart").exists()
    assert find("my/own.toml") == Path("my/own.toml")


def test_an_unknown_run_lists_what_exists_and_suggests():
    with pytest.raises(SpecError, match="there is no run 'quikstart'; there are .*`quickstart`.*Did you mean"):
        find("quikstart")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (dict(steps=0), "evaluation: `steps` must be at least 1, but 0 was given"),
        (dict(tasks=0), "evaluation: `tasks` must be at least 1"),
        (dict(seeds=-1), "evaluation: `seeds` must be at least 1, but -1 was given"),
        (dict(horizons=[]), "evaluation: `horizons` is empty"),
        (dict(horizons=[1, 0]), r"evaluation: `horizons\[1\]` must be at least 1"),
        (dict(baselines=["adan"]), "evaluation: there is no baseline 'adan'; .*Did you mean `adam`"),
    ],
)
def test_evaluations_that_would_fail_after_training_fail_before(changes, text):
    with pytest.raises(SpecError, match=text):
        build(evaluated(**changes), Run, registry=DEFAULT)


@pytest.mark.parametrize("changes", [dict(steps=0), dict(validation_tasks=0)])
def test_numbers_of_a_run(changes):
    with pytest.raises(SpecError, match="`.*` must be at least 1, but 0 was given"):
        build(small(**changes), Run, registry=DEFAULT)


def test_the_default_baselines_exist():
    family = build("quadratics", Run.__annotations__["validation"], registry=DEFAULT)
    assert Evaluation(family, 5).baselines
