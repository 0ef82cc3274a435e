"""All benchmarks."""

from .base import Benchmark


BENCHMARKS: dict[str, Benchmark] = {
    "l2o-digits": Benchmark(
        "a learned optimizer on held-out handwritten digits against tuned ones",
        "metaopt.bench.l2o._rules:digits",
        9,
        "extra `data`",
    ),
    "l2o-teacher-student": Benchmark(
        "a learned optimizer on teacher-student regression against tuned ones",
        "metaopt.bench.l2o._rules:teacher_student",
        12,
    ),
    "l2o-quadratics": Benchmark(
        "a learned LSTM on random quadratics against tuned Adam", "metaopt.bench.l2o._rules:quadratics", 5
    ),
    "l2o-sparse": Benchmark(
        "unfolded shrinkage-thresholding on sparse coding against tuned ISTA and FISTA",
        "metaopt.bench.l2o._sparse:run",
        12,
    ),
    "ladder": Benchmark(
        "similar, related and novel problems, learned optimizers against the best of eight tuned ones",
        "metaopt.bench.l2o._ladder:run",
        15,
        "extra `data`",
    ),
    "generalization": Benchmark(
        "the pretrained optimizer on fourteen families that it was not trained on, against tuned ones and Celo",
        "metaopt.bench.l2o._generalization:run",
        15,
        "extra `data`; Celo's published weights, if they shall be compared with",
    ),
    "fewshot-digits": Benchmark(
        "few-shot classification of unseen glyphs and digits: learned initializations against tuned baselines",
        "metaopt.bench.fewshot._digits:run",
        10,
        "extra `data`",
    ),
    "l2o-ablation": Benchmark(
        "what matters in meta-training: objective, estimator, augmentation and horizons, one at a time",
        "metaopt.bench.l2o._ablation:run",
        15,
        "extra `data`",
    ),
    "maml-sinusoid": Benchmark(
        "few-shot sine waves: a second-order meta-step against PyTorch, and the error after adaptation",
        "metaopt.bench.fewshot._sinusoid:run",
        6,
        "the package registry, once, to install the peers",
    ),
    "moo-front": Benchmark(
        "Pareto fronts of seven standard problems against NSGA-II and NSGA-III",
        "metaopt.bench.multiobjective._front:run",
        8,
        "the package registry, once, to install the peer",
    ),
    "moo-constrained": Benchmark(
        "Pareto fronts under constraints against NSGA-II",
        "metaopt.bench.multiobjective._front:constrained",
        5,
        "the package registry, once, to install the peer",
    ),
    "moo-learned": Benchmark(
        "a network for all of a front against the solver of fronts", "metaopt.bench.multiobjective._learned:run", 3
    ),
    "moo-digits": Benchmark(
        "accuracy, sparsity and latency of a small network on digits: a front against a sweep of weights",
        "metaopt.bench.multiobjective._digits:run",
        4,
        "extra `data`",
    ),
    "moo-combiners": Benchmark(
        "combiners of gradients against TorchJD: equality and cost",
        "metaopt.bench.multiobjective._combiners:run",
        6,
        "the package registry, once, to install the peer",
    ),
    "estimators": Benchmark(
        "bias and variance of the meta-gradient estimators on a problem with a known answer",
        "metaopt.bench.meta._estimators:run",
        2,
    ),
    "meta-families": Benchmark(
        "meta-training on a thousand families: programs, compiling, and what sharing programs costs",
        "metaopt.bench.meta._families:run",
        15,
        "extra `data`",
    ),
    "meta-throughput": Benchmark(
        "inner steps per second of PES meta-training against opifex",
        "metaopt.bench.meta._throughput:run",
        5,
        "the package registry, once, to install the peer",
    ),
    "scaling": Benchmark(
        "meta-training on 1 to 8 devices and in two processes: what changes, and what it costs",
        "metaopt.bench.platforms._scaling:run",
        5,
    ),
    "update-cost": Benchmark(
        "cost of one learned update of a million parameters against Adam's", "metaopt.bench.l2o._update_cost:run", 2
    ),
    "scf-reference": Benchmark(
        "self-consistent fields of 24 molecules against PySCF: convergence, Fock builds, energies, stability",
        "metaopt.bench.scf._reference:run",
        12,
        "extra `quantum`",
    ),
    "scf-learned": Benchmark(
        "learned guesses, responses and accelerators on unseen geometries and molecules",
        "metaopt.bench.scf._learned:run",
        12,
        "extra `quantum`",
    ),
    "rl-scf": Benchmark(
        "a learned choice of accelerator, level shift and damping on unseen molecules of transition metals",
        "metaopt.bench.rl._scf:run",
        14,
        "extra `quantum`",
    ),
    "scf-batch": Benchmark(
        "64 waters and benzenes at once against a loop over PySCF, with and without integrals",
        "metaopt.bench.scf._batch:run",
        3,
        "extra `quantum`",
    ),
    "scf-dft": Benchmark(
        "Kohn-Sham energies of 6 molecules with LDA, PBE and B3LYP against PySCF on the same grid",
        "metaopt.bench.scf._dft:run",
        5,
        "extra `quantum`",
    ),
    "gpu": Benchmark(
        "the fused learned update and meta-training on a GPU, against XLA and Adam",
        "metaopt.bench.platforms._gpu:run",
        4,
        "a GPU",
    ),
    "pinn-throughput": Benchmark(
        "an iteration of Adam on a physics-informed loss, against DeepXDE and jinns",
        "metaopt.bench.physics._pinn_throughput:run",
        3,
        "the package registry, once, to install the peers",
    ),
    "pinn-accuracy": Benchmark(
        "errors of eight physics-informed problems within a budget of processor time, against DeepXDE",
        "metaopt.bench.physics._pinn_accuracy:run",
        13,
        "the package registry, once, to install the peer",
    ),
    "meta-pinn": Benchmark(
        "three families of differential equations: learned starts and a learned rule against tuned Adam",
        "metaopt.bench.physics._meta_pinn:run",
        6,
    ),
    "warm-start": Benchmark(
        "starts from the solutions of similar problems against cold starts, with the same tuned solver",
        "metaopt.bench.fewshot._warm_start:run",
        4,
        "extra `data`; extra `plots` for the picture",
    ),
    "continual": Benchmark(
        "five families of functions one after the other, with and without replay, against all at once",
        "metaopt.bench.fewshot._continual:run",
        5,
    ),
    "rl-dac": Benchmark(
        "learned policies on the benchmarks of dynamic algorithm configuration, and environment steps per second",
        "metaopt.bench.rl._dac:run",
        5,
        "the package registry, once, to install the peer",
    ),
    "rl-digits": Benchmark(
        "learning-rate control of digits networks by a learned policy against tuned constant and cosine rates",
        "metaopt.bench.rl._digits:run",
        8,
        "extra `data`",
    ),
    "rl-control": Benchmark(
        "returns of agents on two classic control problems of gymnax",
        "metaopt.bench.rl._control:run",
        4,
        "gymnax, or the package registry, once, to install it as a peer",
    ),
    "schedules": Benchmark(
        "untuned schedules on eight tasks against Adam tuned over nine rates",
        "metaopt.bench.schedules._schedules:run",
        12,
        "extra `data`",
    ),
    "faults": Benchmark(
        "what users and machines do: bad numbers, damaged files, kills and full disks, broken caches of kernels",
        "metaopt.bench.faults:run",
        12,
        "Linux for the kills; a C++ compiler for the caches",
    ),
    "import-cost": Benchmark(
        "what importing metaopt costs beside JAX, Equinox and Optax", "metaopt.bench.platforms._import_cost:run", 0.5
    ),
}
"""All benchmarks, by name."""
