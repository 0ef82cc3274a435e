"""Files and tables that a run writes while it runs."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from metaopt.evaluate import CSVFile, JSONLines, LiveTable, Monitor, TensorBoard


def test_files_from_inside_of_a_scan(tmp_path: Path) -> None:
    monitor, lines, table = Monitor(), JSONLines(tmp_path / "a" / "run.jsonl"), CSVFile(tmp_path / "run.csv")

    @jax.jit
    def run() -> None:
        def body(state, step):
            state = monitor.update(state, value=jnp.exp(-0.5 * step))
            for sink in (lines, table):
                jax.debug.callback(sink, step, monitor.summary(state), ordered=True)
            return state, None

        jax.lax.scan(body, monitor.init(), jnp.arange(4.0))

    run()
    jax.effects_barrier()
    rows = [json.loads(line) for line in lines.path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3] and rows[0]["convergence_rate"] == "nan"
    assert rows[3]["convergence_rate"] == pytest.approx(0.5, rel=1e-5)
    with table.path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 4 and float(read[3]["last"]) == pytest.approx(rows[3]["last"])


def test_a_live_table() -> None:
    file = io.StringIO()
    table = LiveTable(("average", "missing"), seconds=0.0, file=file)
    for step in range(2):
        table(step, {"average": jnp.asarray(0.5), "batched": jnp.ones(3)})
    lines = file.getvalue().splitlines()
    assert lines[0].split() == ["step", "average", "missing"]
    assert [line.split() for line in lines[1:]] == [["0", "0.5000", "-"], ["1", "0.5000", "-"]]
    # It does not say more than is wanted.
    slow = LiveTable(("average",), seconds=100.0, file=file)
    slow(0, {"average": 1.0})
    length = len(file.getvalue())
    slow(1, {"average": 1.0})
    assert len(file.getvalue()) == length


def test_tensorboard(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboardX") is None:
        with pytest.raises(ImportError, match="pip install tensorboardX"):
            TensorBoard(tmp_path)
        return
    TensorBoard(tmp_path)(3, {"loss": 0.5})
    assert list(tmp_path.glob("events*"))
