import json
import subprocess
import sys
from pathlib import Path

import pytest

import dtmarl

FOLDER = Path(__file__).parents[2] / "eval"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, FOLDER / program, *arguments], capture_output=True, text=True, timeout=120
    )


def test_compare_schemes_writes_reports_and_prints_claims(tmp_path):
    out = tmp_path / "new" / "schemes.json"
    result = run("compare_schemes.py", "--seeds", "0:2", "--out", str(out))
    assert result.returncode == 0
    assert result.stderr == ""
    content = json.loads(out.read_text())
    for name in dtmarl.SCHEMES:
        report = dtmarl.Report.from_json(json.dumps(content["schemes"][name]))
        assert report.provenance.controller == name
        assert report.seeds == (0, 1)
        assert f"| {name} |" in result.stdout
    assert [claim["figure"] for claim in content["claims"]] == ["2(a)"] * 2 + ["2(b)"] * 2 + [
        "2(c)"
    ] * 2
    ratio = next(claim for claim in content["claims"] if claim["measure"].startswith("mean delay"))
    means = {
        name: content["schemes"][name]["metrics"]["system_delay_s"]["value"]
        for name in ("proposed", "single-timescale")
    }
    assert ratio["value"] == pytest.approx(means["proposed"] / means["single-timescale"])
    shown = run("compare_schemes.py", "--show", str(out))
    assert shown.stdout == result.stdout


def test_reading_sensitivity_takes_readings_away(tmp_path):
    out = tmp_path / "readings.json"
    result = run(
        *("reading_sensitivity.py", "--seeds", "0:2", "--out", str(out)),
        *("--reading", "no drift", "--reading", "perfect twin"),
    )
    assert result.returncode == 0
    assert result.stderr == ""
    readings = json.loads(out.read_text())["readings"]
    assert list(readings) == ["as it is", "no drift", "perfect twin"]
    assert readings["as it is"]["difference"]["system_delay_s"]["value"] == 0.0
    assert readings["no drift"]["difference"]["accuracy"]["value"] > 0.0
    assert len({reading["scenario_hash"] for reading in readings.values()}) == 3
    for name in readings:
        assert f"\n| {name}" in result.stdout
    shown = run("reading_sensitivity.py", "--show", str(out))
    assert shown.stdout == result.stdout


@pytest.mark.parametrize("program", ["compare_schemes.py", "reading_sensitivity.py"])
def test_wrong_use_ends_with_status_2_and_no_traceback(program, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"readings": {}}')
    for arguments in (
        ["--scenario", "nowhere", "--out", str(tmp_path / "x.json")],
        ["--show", str(broken)],
    ):
        result = run(program, *arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert "expected" in result.stderr
    assert not (tmp_path / "x.json").exists()


def test_every_reading_is_a_valid_change_of_the_paper_scenario():
    sys.path.insert(0, str(FOLDER))
    try:
        from reading_sensitivity import READINGS
    finally:
        sys.path.remove(str(FOLDER))
    base = dtmarl.scenario("paper-v0")
    hashes = {base.replace(**changes).hash for changes in READINGS.values()}
    assert len(hashes | {base.hash}) == len(READINGS) + 1
