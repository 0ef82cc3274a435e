"""The page of claims, made of the committed reports in `docs/benchmarks/`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._table import BENCHMARKS


REPORTS = Path("docs", "benchmarks")
_COLUMNS = {
    "claim": "claim",
    "figure": "figure",
    "interval": "interval",
    "rival": "rival",
    "budget": "budget",
    "machine": "machine",
    "measured": "date, commit",
    "seeds": "seeds",
    "status": "status",
    "left_out": "left out",
}
_HEAD = """\
<!-- Made by `python -m metaopt.bench._ledger --write` of the reports in docs/benchmarks/; do not edit. -->
# Benchmarks

Every claim about speed or quality is a number that a command prints, on your machine as on ours:

```bash
pip install ".[all,bench]"                    # everything a benchmark may need
python -m metaopt bench --list                # all benchmarks: what they need, and minutes they take
python -m metaopt bench NAME --json FILE      # a table, and a report for machines
```

Keep the machine otherwise idle. Values are measured in the run, never constants. Other libraries run in an
environment of their own, alternately with this one; if one cannot be installed, its claim is absent and a note says
why. Tuned baselines have at least nine learning rates each, most of them a dozen or more, from the same starts and on
the same batches, on tasks that are used for nothing else unless the section says otherwise.

## How to read a row

- A ratio above one means that this library is better; claims that bound an error or a count say so.
- The budget is what both sides may spend, and have spent before. The [`Rival`][metaopt.bench.Rival] is the strongest
  that was run. A [`Claim`][metaopt.bench.Claim] against a rival with another [`Budget`][metaopt.bench.Budget] says
  why.
- **† and a number** behind a commit: so many files of the library that the benchmark runs do something else since
  then (comments and docstrings apart). **‡**: only the benchmark itself was changed.
- Status: `met`, `missed` (the target, or the rival, was not reached), `withdrawn`, `in doubt`, or nothing where no
  target was recorded.
- Machine A: two cores of an AMD EPYC with AVX2 (no AVX-512), 24 GiB, Linux, Python 3.11, jax 0.10.2, CPU only.
  Machine B: one NVIDIA H200, 16 cores, Python 3.12, jax 0.11.2. Machine C: 16 cores beside one NVIDIA H100, jax
  0.11.2, used as CPUs only.
- Seeds are meta-training seeds; each meets its own 32 held-out tasks unless the section says otherwise. "Best Adam"
  is the best of at least 17 rates. "The same" refers to the row above.
- What was tried, and lessons, are in the lab notes that each section links to.

In a clone, `python -m metaopt.bench._ledger --add FILE...` takes reports of runs into `docs/benchmarks/`, `--age`
marks rows that are older than their code, and `--write` makes this page.

## Ledger
"""


def load(root: Path) -> dict[str, dict[str, Any]]:
    """The committed reports by name, in the order of the table of benchmarks, others after them."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / REPORTS).glob("*.json"))
    }
    order = {name: place for place, name in enumerate(BENCHMARKS)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def save(root: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write a committed report."""
    (root / REPORTS).mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    (root / REPORTS / f"{name}.json").write_text(text, encoding="utf-8")


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A committed report with the claims of another: those of the same id are replaced, the others stay."""
    fresh = {claim["id"]: claim for claim in new["claims"]}
    before = {claim["id"]: claim for claim in old.get("claims", [])}
    for name, claim in fresh.items():
        if name in before:
            # Words and targets that were chosen for the ledger stay, and what is withdrawn; what was measured does not.
            kept = {key: before[name][key] for key in ("claim", "want") if key in before[name]}
            for key in ("budget", "left_out"):
                if not claim.get(key) and before[name].get(key):
                    kept[key] = before[name][key]
            earlier = list(before[name].get("earlier", []))
            if before[name].get("commit") != claim["commit"]:
                earlier.append(_earlier(before[name]))
            fresh[name] = claim | kept | {"status": _status(before[name], claim["value"]), "earlier": earlier}
    return (
        {"bench": new["bench"], "about": "", "limits": [], "notes": ""}
        | dict(old)
        | {"claims": list((before | fresh).values())}
    )


def _earlier(claim: Mapping[str, Any]) -> str:
    keys = ("figure", "interval", "note", "rival", "machine", "date", "commit")
    return "; ".join(filter(None, [str(claim.get(key, "")) for key in keys]))


def _status(before: Mapping[str, Any], value: float) -> str:
    if before.get("status") == "withdrawn":
        return "withdrawn"
    if "want" not in before:
        return ""
    relation, target = before["want"]
    return "met" if (value >= target if relation == ">=" else value <= target) else "missed"


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, from the committed reports alone."""
    return _HEAD + "".join(map(_section, reports.values()))


def _section(data: Mapping[str, Any]) -> str:
    parts = [f"### {data['bench']}"]
    if data["bench"] in BENCHMARKS:
        full = " --full" if data.get("full") else ""
        parts.append(f"`python -m metaopt bench {data['bench']}{full}`")
    parts.append(data.get("about", ""))
    if data["claims"]:
        header = [*_COLUMNS.values()]
        lines = [header, ["---"] * len(header), *([_cell(claim, key) for key in _COLUMNS] for claim in data["claims"])]
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    earlier = [f"{claim['claim']}: {told}" for claim in data["claims"] for told in claim.get("earlier", [])]
    if earlier:
        parts.append("Earlier runs:\n\n" + "\n".join(f"- {told}" for told in earlier))
    parts += data.get("limits", [])
    if data.get("notes"):
        parts.append(f"What was tried: [lab notes](notes/{data['notes']}.md#{data['bench']}).")
    return "\n" + "\n\n".join(filter(None, parts)) + "\n"


def _cell(claim: Mapping[str, Any], key: str) -> str:
    if key == "measured":
        mark = claim.get("mark", "")
        text = ", ".join(filter(None, [claim.get("date", ""), claim.get("commit", "")])) + (f" {mark}" if mark else "")
    elif key == "claim":
        text = "; ".join(filter(None, [claim["claim"], claim.get("note", "")]))
    elif key == "status" and "want" in claim:
        relation, target = claim["want"]
        text = f"{claim['status']} (want at {'least' if relation == '>=' else 'most'} {target:g})"
    else:
        text = str(claim.get(key, ""))
    return escaped(text)


def escaped(text: str) -> str:
    """A text as a cell of a table; what is escaped already stays so."""
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|")
