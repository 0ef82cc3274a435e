import json
import re
import resource
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import metaopt
from metaopt.bench.faults._fuzz import sealed
from metaopt.registry import DEFAULT, unknown
from metaopt.spec import SpecError, normalize


ENTRIES = [(kind, name) for kind in DEFAULT.kinds() for name in DEFAULT.names(kind)]
# What must be given, because no default would make sense.
REQUIRED = {
    "clip_by_global_norm": {"inner": "adam"},
    "skip_non_finite": {"inner": "adam"},
    "weight_decay": {"inner": "adam"},
    "cosine": {"inner": "adam"},
    "linear_decay": {"inner": "adam"},
    "exponential": {"inner": "adam"},
    "cyclic_restarts": {"inner": "adam"},
    "plateau": {"inner": "adam"},
    "bold_driver": {"inner": "adam"},
    "polyak": {"inner": "adam"},
    "backtracking": {"inner": "adam"},
    "noise_aware": {"noisy": "adam", "exact": "sgd"},
    "hypergradient": {"inner": "adam"},
    "learned_schedule": {"inner": "adam"},
    "policy": {"inner": "adam"},
    "optimization": {"family": "quadratics", "inner": "adam"},
    "choice": {"others": ["adam"]},
    "safeguarded": {"inner": "adam", "fallback": "sgd"},
    "loss_guarded": {"inner": "adam", "fallback": "sgd"},
    "baseline_guarded": {"inner": "adam", "fallback": "sgd", "curve": [2.0, 1.0, 0.5]},
    "normalized": {"inner": "quadratics"},
    "mixture": {"families": ["quadratics", "rosenbrock"]},
    "mixed": {"inner": "pes"},
    "reparametrized": {"inner": "quadratics"},
    "rescaled": {"inner": "quadratics"},
    "reduced_batch": {"inner": "teacher_student"},
    "decay_to_start": {"inner": "adam"},
    "proximal": {"inner": "adam"},
    "only_parts": {"inner": "adam", "parts": "2/*"},
    "anil": {"head": "2/*"},
    "ewc": {"inner": "adam"},
    "weighted_sum": {"inner": "adam"},
    "chebyshev": {"inner": "adam"},
    "pbi": {"inner": "adam"},
    "epsilon_constraint": {"inner": "adam", "bounds": [1.0, 1.0]},
    "mgda": {"inner": "adam"},
    "pcgrad": {"inner": "adam"},
    "cagrad": {"inner": "adam"},
    "nash_mtl": {"inner": "adam"},
    "upgrad": {"inner": "adam"},
    "imtl_g": {"inner": "adam"},
    "random_weighting": {"inner": "adam"},
    "preference_conditioned": {"inner": "adam"},
    "shared_curvature": {"inner": {"name": "weighted_sum", "inner": "adam"}},
    "preferred": {"inner": "quadratics"},
    "test_problem": {"problem": "zdt1"},
    "dense": {"sizes": [2, 3, 1]},
    "convolutional": {"side": 8, "channels": [2], "outputs": 3},
    "recurrent": {"steps": 2, "size": 3, "hidden": 4, "outputs": 2},
    "attention": {"steps": 2, "size": 3, "width": 4, "blocks": 1, "outputs": 2},
    "vision_transformer": {"side": 8, "patch": 4, "width": 4, "blocks": 1, "outputs": 3},
    "mlp_mixer": {"side": 8, "patch": 4, "width": 4, "hidden": 3, "blocks": 1, "outputs": 3},
    "residual": {"side": 8, "channels": [2], "outputs": 3},
    "supervised": {"network": {"name": "residual", "side": 8, "channels": [2], "outputs": 10}},
    "constant": {"longest": 10},
    "log_uniform": {"shortest": 5, "longest": 10},
    "time_to_target": {"target": 0.1},
    "level_shift": {"inner": "cdiis"},
    "damping": {"inner": "cdiis"},
    "restarted": {"inner": "cdiis"},
    "guarded": {"inner": "mixing"},
    "task_parallel": {"inner": "pes", "mesh": "mesh"},
    "polygon": {"corners": [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]},
    "union": {"first": "rectangle", "second": "disk"},
    "difference": {"first": "rectangle", "second": "disk"},
    "space_time": {"space": "interval"},
    "data": {"points": [[0.0]], "targets": [[1.0]]},
    "hard_boundary": {"inner": "perceptron", "distance": 1.0},
    "rescaled_inputs": {"inner": "perceptron", "lower": [0.0, 0.0], "upper": [1.0, 1.0]},
    "first_order": {"inner": "adam"},
    "combined": {"inner": "adam"},
    "staged": {"first": {"name": "first_order", "inner": "adam"}, "second": "gauss_newton"},
    "balanced": {"inner": {"name": "first_order", "inner": "adam"}, "balancing": "grad_norm"},
}
PACKAGES = {
    "digits_mlp": "sklearn",
    "digits_conv": "sklearn",
    "mnist_1d": "mnist1d",
    "generated": "sklearn",
    "supervised": "sklearn",
    "labelled_classes": "sklearn",
    "generate": "sklearn",
}


def _ids(entry):
    return f"{entry[0].__name__}-{entry[1]}"


@pytest.mark.parametrize("entry", ENTRIES, ids=_ids)
def test_every_entry_builds_from_its_name(entry):
    kind, name = entry
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    options = REQUIRED.get(name, {})
    spec = {"name": name, **options} if options else name
    built = metaopt.build(spec, kind)
    assert isinstance(built, kind)
    again = metaopt.build(normalize(spec, kind, registry=DEFAULT), kind)
    assert eqx.tree_equal(built, again)


@pytest.mark.parametrize("name", REQUIRED)
def test_required_options_are_required(name):
    kind = next(kind for kind, known in ENTRIES if known == name)
    with pytest.raises(SpecError, match="missing: "):
        metaopt.build(name, kind)


@pytest.mark.parametrize("entry", ENTRIES, ids=_ids)
def test_every_entry_has_a_summary(entry):
    summary = DEFAULT.summary(*entry)
    assert re.fullmatch(r"[A-Z].{10,200}\.", summary), summary


@pytest.mark.parametrize("entry", ENTRIES, ids=_ids)
def test_every_option_has_a_type(entry):
    if DEFAULT.get(*entry).__init__ is object.__init__:
        return
    assert all(option.type not in ("Any", "") for option in DEFAULT.options(*entry))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_numbers_of_named_optimizers_are_leaves(name):
    algorithm = metaopt.build({"name": name, "learning_rate": 0.5}, metaopt.AbstractAlgorithm)
    assert isinstance(algorithm, metaopt.Optax)
    assert algorithm.hyperparameters["learning_rate"] == 0.5
    _, params = algorithm.step(algorithm.init(jnp.ones(2)), jnp.ones(2), jnp.ones(2))
    assert jnp.all(params < 1)


def test_nesterov_differs():
    def end(nesterov):
        spec = {"name": "momentum", "nesterov": nesterov}
        algorithm = metaopt.build(spec, metaopt.AbstractAlgorithm)
        params = jnp.ones(2)
        state = algorithm.init(params)
        for _ in range(2):
            state, params = algorithm.step(state, params, params)
        return params

    assert jnp.all(end(True) < end(False))


def test_own_names(tmp_path):
    class Halve(metaopt.AbstractAlgorithm):
        rate: jnp.ndarray = eqx.field(converter=jnp.asarray, default=0.5)

        def init(self, params, *, key=None):
            return ()

        def step(self, state, params, grads, *, value=None):
            return state, params * self.rate

    own = DEFAULT.register(metaopt.AbstractAlgorithm, "halve", Halve)
    spec = {"algorithm": "halve"}
    learner = metaopt.build(spec, metaopt.Learner, registry=own)
    trained = eqx.tree_at(lambda x: x.algorithm.rate, learner, jnp.asarray(0.25))
    metaopt.save(tmp_path / "own.metaopt", trained, spec=spec)
    assert eqx.tree_equal(metaopt.load(tmp_path / "own.metaopt", registry=own), trained)
    with pytest.raises(SpecError, match="'halve' is not the name"):
        metaopt.load(tmp_path / "own.metaopt")


def test_a_file_without_a_spec_says_so(tmp_path):
    metaopt.save(tmp_path / "arrays.metaopt", {"x": jnp.ones(3)})
    with pytest.raises(metaopt.CheckpointError, match=r"holds no spec of a learner. Pass the structure"):
        metaopt.load(tmp_path / "arrays.metaopt")
    loaded = metaopt.load(tmp_path / "arrays.metaopt", {"x": jnp.zeros(3)})
    assert eqx.tree_equal(loaded, {"x": jnp.ones(3)})


def test_unknown_lists_and_suggests():
    text = str(unknown("run", "quickstrat", ["quickstart", "other"]))
    assert text == "there is no run 'quickstrat'; there are `quickstart`, `other`. Did you mean `quickstart`?"
    assert "Did you mean" not in str(unknown("run", "xyz", ["quickstart"]))


def test_names_are_known_without_importing_what_they_name():
    code = (
        "import sys, metaopt, metaopt.registry as r; assert 'adafac_mlp' in r.DEFAULT.names(metaopt.AbstractAlgorithm);"
        "assert 'plain' in r.DEFAULT.names('metaopt.l2o.base:AbstractHead'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = done.stdout.split()
    assert "metaopt.spec" in loaded
    assert not {
        "metaopt.l2o",
        "metaopt.backend",
        "metaopt.tasks",
        "metaopt.evaluate",
        "metaopt.fewshot",
        "metaopt.multiobjective",
        "metaopt.schedules",
        "matplotlib",
        "tqdm",
        "hypothesis",
    } & set(loaded)


def _forged(path, **options):
    """A file with a right checksum, whose spec asks for what the file does not hold."""
    header = json.dumps({"metadata": {"spec": {"algorithm": options}}, "leaves": []}).encode()
    path.write_bytes(sealed(header, b""))
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "adafac_mlp", "hidden_size": 50_000}, r"does not fit. Not in the file: \['.algorithm"),
        ({"name": "mlp", "hidden_layers": 20_000}, "its spec asks for far more than the 0 arrays that it holds"),
        ({"name": "adafac_mlp", "hidden_size": 10**9}, "its spec asks for far more than the 0 arrays that it holds"),
        ({"name": "mlp", "hidden_layers": 10**9}, "its spec asks for far more than the 0 arrays that it holds"),
        ({"name": "mlp", "hidden_layers": 2**62}, "its spec asks for far more than the 0 arrays that it holds"),
    ],
)
def test_a_small_file_makes_nothing_large(options, words, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(metaopt.CheckpointError, match=words):
        metaopt.load(_forged(tmp_path / "x.metaopt", **options))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_a_wrong_spec_in_a_file_is_a_spec_error(tmp_path):
    with pytest.raises(SpecError, match="algorithm.rat: `learnable_sgd` has no such option"):
        metaopt.load(_forged(tmp_path / "x.metaopt", name="learnable_sgd", rat=0.1))
    with pytest.raises(SpecError, match="expected `Learner`, given 3"):
        (tmp_path / "y.metaopt").write_bytes(sealed(b'{"metadata": {"spec": 3}, "leaves": []}', b""))
        metaopt.load(tmp_path / "y.metaopt")


def test_a_large_number_that_is_no_size_is_loaded(tmp_path):
    spec = {"algorithm": {"name": "learnable_adam", "epsilon": 10**9}}
    learner = metaopt.build(spec, metaopt.Learner)
    metaopt.save(tmp_path / "x.metaopt", learner, spec=spec)
    assert eqx.tree_equal(metaopt.load(tmp_path / "x.metaopt"), learner)


class Choosy(metaopt.AbstractAlgorithm[None, Any, Any]):
    """Looks at its number when it is made."""

    rate: jax.Array = eqx.field(converter=jnp.asarray)

    def __init__(self, rate: float = 0.5):
        self.rate = jnp.asarray(rate)
        if self.rate <= 0:
            raise ValueError("`rate` must be positive.")

    def init(self, params: Any, *, key: Any = None) -> None:
        return None

    def step(self, state: None, params: Any, grads: Any, *, value: Any = None, key: Any = None) -> Any:
        return state, params


def test_a_rule_that_looks_at_numbers_is_loaded(tmp_path):
    own = DEFAULT.register(metaopt.AbstractAlgorithm, "choosy", Choosy)
    spec = {"algorithm": {"name": "choosy", "rate": 2.0}}
    metaopt.save(tmp_path / "x.metaopt", metaopt.build(spec, metaopt.Learner, registry=own), spec=spec)
    loaded = metaopt.load(tmp_path / "x.metaopt", registry=own).algorithm
    assert isinstance(loaded, Choosy) and loaded.rate == 2.0
    with pytest.raises(SpecError, match="`rate` must be positive"):
        metaopt.save(tmp_path / "x.metaopt", 1.0, spec={"algorithm": {"name": "choosy", "rate": -2.0}})
        metaopt.load(tmp_path / "x.metaopt", registry=own)


@pytest.mark.slow
def test_every_algorithm_that_needs_nothing_is_loaded_by_its_spec(tmp_path):
    for name in DEFAULT.names(metaopt.AbstractAlgorithm):
        options = DEFAULT.options(metaopt.AbstractAlgorithm, name)
        needed = {option.name: "adam" for option in options if option.default is None}
        if not set(needed) <= {"inner", "fallback", "noisy", "exact"}:
            continue
        spec = {"algorithm": {"name": name, **needed}}
        learner = metaopt.build(spec, metaopt.Learner)
        metaopt.save(tmp_path / "x.metaopt", learner, spec=spec)
        assert eqx.tree_equal(metaopt.load(tmp_path / "x.metaopt"), learner), name
