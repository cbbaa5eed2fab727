"""The programs on association and retraining: they run, and say the same of what is stored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dtmarl.frame.planned import Planned

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "eval" / "results"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / program, *arguments], capture_output=True, text=True, timeout=120
    )


def test_association_value_compares_solvers_on_the_same_worlds(tmp_path):
    out = tmp_path / "value.json"
    result = run(
        *("eval/association_value.py", "--seeds", "0:2", "--several-seeds", "1"),
        *("--scenario", "paper-v0", "--policy", "root-balanced", "--out", str(out)),
    )
    assert result.returncode == 0
    assert result.stderr == ""
    content = json.loads(out.read_text())
    (part,) = content["parts"]
    rows = part["rows"]
    assert rows["exact"]["above_exact_s"]["value"] == 0.0
    assert rows["nearest"]["delay_s"]["value"] > rows["exact"]["delay_s"]["value"]
    assert rows["nearest"]["delay_s"]["value"] == pytest.approx(
        sum(rows["nearest"]["by_seed_s"]) / 2, abs=1e-4
    )
    assert 0.5 < content["several_stations"]["least"] < content["several_stations"]["mean"] < 1.0
    for name in rows:
        assert f"| {name} | " in result.stdout
    assert run("eval/association_value.py", "--show", str(out)).stdout == result.stdout


def test_retraining_value_fits_and_compares(tmp_path):
    out = tmp_path / "value.json"
    result = run(
        *("eval/retraining_value.py", "--seeds", "0:2", "--fit-seeds", "0:4", "--out", str(out))
    )
    assert result.returncode == 0
    assert result.stderr == ""
    content = json.loads(out.read_text())
    assert content["fit"]["retrainings"] > 50
    rows = list(content["rows"].values())
    retrained = [row["retrain_rate"]["mean"] for row in rows]
    assert retrained[0] == max(retrained[:4]) > min(retrained[:4]) > 0.0  # lower thresholds
    assert retrained[4:] == sorted(retrained[4:], reverse=True)  # higher prices
    assert run("eval/retraining_value.py", "--show", str(out)).stdout == result.stdout


def test_planned_has_the_measured_coefficients():
    fit = json.loads((RESULTS / "retraining_value_paper-v0.json").read_text())["fit"]
    planned = Planned()
    own = (planned.saving_offset, planned.saving_share, planned.saving_share_per_frame)
    assert own == pytest.approx(fit["coefficients"], abs=1e-4)


def test_benchmark_prints_the_paper_s_size_in_80_columns(tmp_path):
    out = tmp_path / "figures.json"
    result = run("benchmarks/association.py", "--quick", "--json", str(out))
    assert result.returncode == 0
    assert result.stderr == ""
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    exact, one, many = json.loads(out.read_text())["cases"]
    assert exact["proved_share"] == 1.0
    assert (one["environments"], many["environments"]) == (1, 1024)
    assert 0.0 <= many["to_exact"] <= many["mean_gap"]
