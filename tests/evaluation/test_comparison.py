import json

import pytest

import dtmarl
from dtmarl.evaluation import comparison
from dtmarl.evaluation.comparison import Entry, choose_entries, compare
from dtmarl.evaluation.table import WIDTH, comparison_table, per_cent, report_table

SMALL = dtmarl.scenario("paper-v0").replace(frames_per_episode=2, slots_per_frame=3)
ROWS = choose_entries(["local-only", "root-balanced"])


def test_default_rows_are_the_schemes_and_the_baselines():
    rows = choose_entries()
    assert [row.controller for row in rows if row.policy == "root-balanced"] == list(dtmarl.SCHEMES)
    assert {row.policy for row in rows if row.controller == "proposed"} == set(dtmarl.POLICIES)
    assert len(set(rows)) == len(rows) == len(dtmarl.SCHEMES) + len(dtmarl.POLICIES) - 1


def test_rows_are_every_policy_with_every_controller():
    rows = choose_entries(["random", "local-only"], ["proposed", "without-twin"])
    assert len(rows) == 4
    assert choose_entries(None, ["without-twin"]) == (Entry("root-balanced", "without-twin"),)


def test_file_names_are_plain_and_different():
    names = {Entry(policy, "c").file_name for policy in ("a.b:C", "a.b_C", "../x", "a/b:C")}
    assert len(names) == 4
    assert not any("/" in name or ":" in name or name.startswith(".") for name in names)


def test_compare_gives_what_evaluate_gives(tmp_path):
    reports = compare(ROWS, SMALL, seeds=[0, 1], out=tmp_path)
    for row, report in zip(ROWS, reports, strict=True):
        assert report == dtmarl.evaluate(row.policy, SMALL, seeds=[0, 1])
        assert dtmarl.Report.load(tmp_path / row.file_name) == report


def interrupt_before(monkeypatch, number):
    """Ctrl-C comes in place of the given call of `rollouts`, counted from 1; returns the calls."""
    calls = []

    def counted(*arguments, **keywords):
        calls.append(arguments[0])
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    original = comparison.rollouts
    monkeypatch.setattr(comparison, "rollouts", counted)
    return calls


def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = compare(ROWS, SMALL, seeds=[0, 1], out=tmp_path / "whole")
    calls = interrupt_before(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        compare(ROWS, SMALL, seeds=[0, 1], out=tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [ROWS[0].file_name]
    told = []
    again = compare(ROWS, SMALL, seeds=[0, 1], out=tmp_path / "cut", notify=told.append)
    assert calls == ["local-only", "root-balanced", "root-balanced"]
    assert again == whole
    assert len(told) == 1
    assert ROWS[0].file_name in told[0]


@pytest.mark.parametrize(
    "change", [{"seeds": [0, 2]}, {"scenario": SMALL.replace(max_users=9)}, {"fresh": True}]
)
def test_results_of_another_question_are_not_reused(tmp_path, monkeypatch, change):
    arguments = {"scenario": SMALL, "seeds": [0, 1], "out": tmp_path}
    compare(ROWS, **arguments)
    calls = interrupt_before(monkeypatch, 0)
    compare(ROWS, **arguments)
    assert calls == []
    arguments |= change
    compare(ROWS, **arguments)
    assert calls == ["local-only", "root-balanced"]


def test_results_of_other_code_are_not_reused(tmp_path, monkeypatch):
    compare(ROWS, SMALL, seeds=[0], out=tmp_path)
    calls = interrupt_before(monkeypatch, 0)
    path = tmp_path / ROWS[1].file_name
    content = json.loads(path.read_text())
    content["provenance"]["code_hash"] = "0" * 16
    path.write_text(json.dumps(content))
    compare(ROWS, SMALL, seeds=[0], out=tmp_path)
    assert calls == ["root-balanced"]


def test_damaged_results_are_made_again(tmp_path, monkeypatch):
    first = compare(ROWS, SMALL, seeds=[0, 1], out=tmp_path)
    path = tmp_path / ROWS[0].file_name
    path.write_text(path.read_text()[:100])
    told = []
    assert compare(ROWS, SMALL, seeds=[0, 1], out=tmp_path, notify=told.append) == first
    assert any(path.name in message and "again" in message for message in told)


@pytest.mark.parametrize(
    "rows",
    [[], [Entry("local-only", "proposed"), Entry("nobody", "proposed")], [Entry("random", "none")]],
)
def test_nothing_runs_when_a_row_is_wrong(tmp_path, rows):
    with pytest.raises(ValueError, match="expected"):
        compare(rows, SMALL, seeds=[0], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_json_has_differences_to_the_first_row(tmp_path):
    reports = compare(ROWS, SMALL, seeds=[0, 1, 2], out=tmp_path)
    rows = json.loads(comparison.to_json(reports))["rows"]
    assert "difference_to_first" not in rows[0]
    assert rows[1]["difference_to_first"]["accuracy"]["value"] == pytest.approx(
        reports[1].mean("accuracy") - reports[0].mean("accuracy")
    )


def test_a_policy_that_acts_on_the_truth_is_marked(tmp_path):
    rows = choose_entries(["twin-optimum", "oracle"])
    reports = compare(rows, SMALL, seeds=[0, 1], out=tmp_path)
    found = json.loads(comparison.to_json(reports))["rows"]
    assert [row["uses_truth"] for row in found] == [False, True]
    table = comparison_table(reports)
    assert table.count("oracle (truth) proposed") == 3
    assert "twin-optimum   proposed" in table
    assert "not a competitor" in table
    assert "not a competitor" not in comparison_table(reports[:1])
    assert report_table(reports[1]).startswith("oracle (truth) / proposed")
    assert [report.policy_label for report in reports] == ["twin-optimum", "oracle (truth)"]


def test_gaps_are_in_table_and_json(tmp_path):
    reports = compare(ROWS, SMALL, seeds=[0, 1, 2], out=tmp_path)
    row = json.loads(comparison.to_json(reports))["rows"][1]
    for name in ("optimality_gap", "clairvoyant_gap", "twin_gap"):
        assert row["metrics"][name]["value"] == pytest.approx(reports[1].mean(name))
        assert name in report_table(reports[1])
    gap = per_cent(reports[1].estimate("optimality_gap"))
    assert f"root-balanced  proposed            {gap}" in comparison_table(reports)


def test_tables_fit_into_80_columns_and_name_every_row(tmp_path):
    config = SMALL.replace(name="x" * 90)
    for seeds in ([0], [0, 1]):
        reports = compare(choose_entries(), config, seeds=seeds, out=tmp_path)
        for text in (comparison_table(reports), report_table(reports[0])):
            assert max(map(len, text.splitlines())) <= WIDTH
        for name in (*dtmarl.SCHEMES, *dtmarl.POLICIES):
            assert name in comparison_table(reports)
