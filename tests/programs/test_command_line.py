import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dtmarl
from dtmarl.cli import main
from dtmarl.evaluation.comparison import choose_entries

ONE_SEED = ("--seeds", "0:1")


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "dtmarl", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )


@pytest.fixture
def workplace(tmp_path):
    """A folder with a policy and environment factories of one's own."""
    (tmp_path / "own.py").write_text(
        "import os, time\n"
        "import dtmarl\n"
        "from dtmarl.policies import FixedSplit\n"
        "class Half(FixedSplit):\n"
        "    def __init__(self):\n"
        "        super().__init__(offloaded=0.5)\n"
        "class Waiting(Half):\n"
        "    def reset(self, scenario, seed):\n"
        "        super().reset(scenario, seed)\n"
        "        if os.path.exists('wait'):\n"
        "            open('waiting', 'w').close()\n"
        "            time.sleep(120)\n"
        "class Silent(Half):\n"
        "    def act(self, observations):\n"
        "        return {}\n"
        "def good():\n"
        "    return dtmarl.parallel_env()\n"
        "class Bad(type(good())):\n"
        "    def step(self, actions):\n"
        "        result = super().step(actions)\n"
        "        return (result[0], {a: float('nan') for a in result[1]}, *result[2:])\n"
        "def bad():\n"
        "    env = dtmarl.parallel_env()\n"
        "    return Bad(env.env, env.controller)\n"
    )
    return tmp_path


def test_scenarios_are_listed():
    result = run("scenarios")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(dtmarl.scenarios())
    rows = json.loads(run("scenarios", "--json").stdout)
    assert {row["id"]: row["hash"] for row in rows} == {
        name: dtmarl.scenario(name).hash for name in dtmarl.scenarios()
    }


@pytest.mark.parametrize("name", dtmarl.scenarios())
def test_show_tells_every_setting_and_every_observed_number(name, capsys):
    assert main(["show", name, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    config = dtmarl.scenario(name)
    told = {row["name"]: row["value"] for row in content["settings"]}
    for group, values in config.to_dict().items():
        for key, value in values.items() if isinstance(values, dict) else ():
            assert told[f"{group}.{key}"] == value
    assert {row["name"]: row["unit"] for row in content["settings"]}["radio.carrier_hz"] == "Hz"
    env = dtmarl.parallel_env(config)
    assert content["agents"] == env.possible_agents
    for kind in ("bs", "mu"):
        blocks = content["observations"][kind]
        assert [block["stop"] for block in blocks[:-1]] == [block["start"] for block in blocks[1:]]
        assert (blocks[-1]["stop"],) == env.observation_space(f"{kind}_0").shape
        assert (content["actions"][kind]["size"],) == env.action_space(f"{kind}_0").shape


def test_show_fits_into_80_columns():
    result = run("show", "paper-v0")
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for word in ("migration_bytes", "generated_mix", "mu_9", "FLOP/s"):
        assert word in result.stdout


def test_evaluate_writes_what_it_prints(tmp_path):
    pytest.importorskip("matplotlib")
    report_path, plot_path = tmp_path / "new" / "report.json", tmp_path / "figure.png"
    result = run(
        *("evaluate", "local-only", *ONE_SEED, "--json", "--controller", "without-twin"),
        *("--out", str(report_path), "--plot", str(plot_path)),
    )
    assert result.returncode == 0
    assert result.stderr == ""
    printed = dtmarl.Report.from_json(result.stdout)
    assert printed.provenance.controller == "without-twin"
    assert printed.to_json() == dtmarl.Report.load(report_path).to_json()
    assert plot_path.read_bytes().startswith(b"\x89PNG")


def test_evaluate_finds_a_policy_where_it_is_called(workplace):
    result = run("evaluate", "own:Half", *ONE_SEED, cwd=workplace)
    assert result.returncode == 0
    assert result.stderr == ""
    assert "own:Half / proposed" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_evaluate_reports_gaps_and_marks_an_anchor(capsys):
    assert main(["evaluate", "oracle", "--seeds", "0:2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("oracle (truth) / proposed\n")
    for name in ("optimality_gap      0.0 [0.0, 0.0] %", "clairvoyant_gap", "twin_gap"):
        assert f"\n{name}" in printed
    assert main(["evaluate", "twin-optimum", "--seeds", "0:2", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["provenance"]["uses_truth"] is False
    for name in ("optimality_gap", "clairvoyant_gap", "twin_gap"):
        metric = content["metrics"][name]
        assert 0.0 < metric["low"] <= metric["value"] <= metric["high"]


def test_compare_prints_a_table_and_leaves_files(tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ("compare", "--policies", "local-only,random", "--seeds", "0:2")
    result = run(*arguments, "--out", str(tmp_path))
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert (tmp_path / "table.txt").read_text() == result.stdout
    assert str(tmp_path) in result.stderr
    for name in ("means.png", "policies--proposed.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    again = run(*arguments, "--out", str(tmp_path), "--json", "--quiet")
    assert again.stderr == ""
    assert json.loads(again.stdout) == json.loads((tmp_path / "comparison.json").read_text())
    assert [row["policy"] for row in json.loads(again.stdout)["rows"]] == ["local-only", "random"]


def test_compare_goes_on_without_matplotlib_and_says_so(workplace):
    blocked = workplace / "matplotlib"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ImportError('not here')")
    result = run(*("compare", "--policies", "local-only", *ONE_SEED, "--out", "out"), cwd=workplace)
    assert result.returncode == 0
    assert "pip install 'dtmarl[plot]'" in result.stderr
    assert (workplace / "out" / "table.txt").exists()
    result = run("evaluate", "random", "--plot", "x.png", cwd=workplace)
    assert result.returncode == 2
    assert "pip install 'dtmarl[plot]'" in result.stderr


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGKILL])
def test_a_comparison_that_is_cut_short_goes_on(workplace, interrupt):
    first, second = choose_entries(["local-only", "own:Waiting"])
    arguments = ("compare", "--policies", "local-only,own:Waiting", "--seeds", "0:2", "--out", "o")
    (workplace / "wait").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "dtmarl", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=workplace,
        # Who runs the tests in a shell's background has them ignore interrupts, and all they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60.0
    while not (workplace / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(interrupt)
    _, complaint = process.communicate(timeout=240)
    assert process.returncode == (130 if interrupt == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in complaint
    assert [path.name for path in (workplace / "o").iterdir()] == [first.file_name]
    kept = (workplace / "o" / first.file_name).read_bytes()

    (workplace / "wait").unlink()
    result = run(*arguments, cwd=workplace)
    assert result.returncode == 0
    assert f"{first.file_name}: finished before, kept" in result.stderr
    assert f"{second.file_name}: finished before" not in result.stderr
    assert (workplace / "o" / first.file_name).read_bytes() == kept
    assert dtmarl.Report.load(workplace / "o" / second.file_name).seeds == (0, 1)


def test_check_tells_good_from_bad(workplace):
    rules = ("--rules", "spaces,step_types,rejects_nan,across_processes")
    good = run("check", "own:good", *rules, cwd=workplace)
    assert good.returncode == 0
    assert good.stdout.splitlines()[-1] == "4 of 4 rules kept"
    bad = run("check", "own:bad", "--rules", "spaces,step_types", "--json", cwd=workplace)
    assert bad.returncode == 1
    content = json.loads(bad.stdout)
    assert content["passed"] is False
    assert {row["rule"]: row["passed"] for row in content["rules"]}["step_types"] is False
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["unknown"], "invalid choice"),
        (["show", "nowhere-v0"], "expected a ScenarioConfig or one of"),
        (["evaluate", "nobody"], "root-balanced"),
        (["evaluate", "no.module:Class"], "cannot make"),
        (["evaluate", "own:Silent"], "missing"),
        (["evaluate", "random", "--scenario", "nowhere"], "paper-v0"),
        (["evaluate", "random", "--controller", "nobody"], "without-twin"),
        (["evaluate", "random", "--seeds", "3:3"], "range with seeds"),
        (["evaluate", "random", "--seeds", "a"], "such as 0:20"),
        (["evaluate", "random", "--seeds", "1,1"], "more than once"),
        (["evaluate", "random", "--seeds=-1,2"], "non-negative"),
        (["evaluate", "random", "--workers", "0"], "positive integer"),
        (["evaluate", "random", "--plot", "figure.nothing"], "suffixes"),
        (["evaluate", "random", "--seeds", "0:1", "--out", "own.py/x.json"], "own.py"),
        (["compare"], "--out"),
        (["compare", "--out", "o", "--policies", "random,"], "names such as a,b"),
        (["compare", "--out", "o", "--controllers", "nobody"], "without-twin"),
        (["check", "own"], "package.module:function"),
        (["check", "own:nothing"], "nothing"),
        (["check", "own:good", "--rules", "nothing"], "expected names among"),
        (["check", "own:good", "--episodes", "0"], "episodes"),
    ],
)
def test_wrong_use_ends_with_status_2_and_says_why(
    workplace, monkeypatch, capsys, arguments, expected
):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "path", [str(workplace), *sys.path])
    monkeypatch.delitem(sys.modules, "own", raising=False)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.out == ""
    assert not Path("o").exists()


def test_wrong_use_shows_no_traceback(workplace):
    result = run("evaluate", "own:Silent", cwd=workplace)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "missing" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_stops_early_causes_no_complaint():
    command = f"{sys.executable} -m dtmarl show paper-v0 | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=240
    )
    assert result.stdout.startswith("paper-v0")
    assert result.stderr == ""


def test_version_and_help():
    assert run("--version").stdout.strip() == f"dtmarl {dtmarl.__version__}"
    result = run("--help")
    assert result.returncode == 0
    for command in ("scenarios", "show", "evaluate", "compare", "check"):
        assert command in result.stdout
