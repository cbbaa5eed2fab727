import json
import subprocess
import sys
from pathlib import Path

import dtmarl

PROGRAM = Path(__file__).parents[2] / "eval" / "anchors.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments], capture_output=True, text=True, timeout=120
    )


def test_anchors_of_one_seed_are_written_and_shown_again(tmp_path):
    out = tmp_path / "new" / "anchors.json"
    result = run("--seeds", "0:1", "--out", str(out))
    assert result.returncode == 0
    assert result.stderr == ""
    content = json.loads(out.read_text())
    assert len(content) == 4
    for reports in content.values():
        assert list(reports) == list(dtmarl.POLICIES)
        gaps = {name: row["per_seed"]["optimality_gap"][0] for name, row in reports.items()}
        assert min(gaps, key=gaps.get) == "oracle"
        assert gaps["oracle"] < 1e-3
    perfect = content["paper-v0, perfect twin"]["twin-optimum"]["per_seed"]
    assert perfect["optimality_gap"][0] < 1e-4
    assert abs(perfect["twin_gap"][0]) < 1e-9
    assert "| `oracle` (truth) |" in result.stdout
    assert run("--show", str(out)).stdout == result.stdout


def test_wrong_use_ends_with_status_2_and_no_traceback(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    for arguments in (("--controller", "nobody"), ("--show", str(broken))):
        result = run(*arguments, "--out", str(tmp_path / "x.json"))
        assert result.returncode == 2
        assert "expected" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "x.json").exists()
