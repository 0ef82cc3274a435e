import sys
import time

import metaopt._core._progress as module
from metaopt._core._progress import progress_bar


def test_a_file_gets_lines_and_not_many(capsys):
    with progress_bar(1000, done=0, unit="step", enabled=True) as bar:
        for i in range(1000):
            bar.set_postfix({"loss": str(i)}, refresh=False)
            bar.update(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and not any("\r" in line for line in lines)
    assert " 0/1000 " in lines[0] and " 1000/1000 " in lines[1] and "loss=999" in lines[1]


def test_lines_come_by_the_clock(capsys, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.05)
    with progress_bar(4, done=1, unit="step", enabled=True) as bar:
        for _ in range(3):
            time.sleep(0.06)
            bar.update(1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("/4")[0].split()[-1] for line in lines][:4] == ["1", "2", "3", "4"]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with progress_bar(2, done=0, unit="step", enabled=True) as bar:
        bar.update(2)
    out = capsys.readouterr().out
    assert out.count("\r") >= 2 and out.endswith("\n")


def test_nothing_is_shown_if_not_wanted(capsys):
    with progress_bar(2, done=0, unit="step", enabled=False) as bar:
        bar.set_postfix({"loss": "1"}, refresh=False)
        bar.update(2)
    assert capsys.readouterr().out == ""
