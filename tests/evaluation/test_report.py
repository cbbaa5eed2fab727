import json

import pytest

import dtmarl
from dtmarl.evaluation.files import write_atomically

SMALL = dtmarl.scenario("paper-v0").replace(frames_per_episode=2, slots_per_frame=3)


@pytest.fixture(scope="module")
def report():
    return dtmarl.evaluate("equal-balanced", SMALL, seeds=[1, 4, 6])


def test_json_round_trip_keeps_everything(report):
    again = dtmarl.Report.from_json(report.to_json())
    assert again == report
    assert again.to_json() == report.to_json()
    assert again.config == SMALL


def test_json_is_strict_even_without_intervals():
    single = dtmarl.evaluate("local-only", SMALL, seeds=[2])

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(single.to_json(), parse_constant=refuse)
    assert content["metrics"]["accuracy"]["low"] is None
    again = dtmarl.Report.from_json(single.to_json())
    assert again.to_json() == single.to_json()


def test_saved_file_is_loaded_and_nothing_else_is_left(report, tmp_path):
    path = report.save(tmp_path / "new" / "report.json")
    assert dtmarl.Report.load(path) == report
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "file.txt", "old")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def damage(**changes):
    """A function that changes the JSON content along dotted names."""

    def apply(content):
        for name, value in changes.items():
            *where, last = name.split("__")
            part = content
            for key in where:
                part = part[key]
            part[last] = value
        return content

    return apply


@pytest.mark.parametrize(
    "change",
    [
        damage(format="other"),
        damage(provenance={}),
        damage(provenance__seeds=[1, 4]),
        damage(provenance__uses_truth="no"),
        damage(metrics__accuracy={}),
        damage(metrics__accuracy__per_seed=[0.1, "0.2", 0.3]),
        damage(metrics__accuracy__per_seed=[0.1, None, 0.3]),
        damage(curves__accuracy__mean=[]),
        damage(curves={}),
        damage(config__max_users=-1),
        damage(config__no_such_field=1),
        lambda content: [],
        lambda content: None,
        lambda content: {},
    ],
)
def test_files_that_are_not_whole_reports_are_refused_by_name(report, tmp_path, change):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(change(json.loads(report.to_json()))))
    with pytest.raises(ValueError, match=r"bad\.json: expected a report"):
        dtmarl.Report.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"NaN"])
def test_files_that_are_not_json_are_refused_by_name(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json: expected a report"):
        dtmarl.Report.load(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_truncated_files_are_refused_by_name(report, tmp_path, part):
    path = report.save(tmp_path / "cut.json")
    text = path.read_text()
    path.write_text(text[: int(part * len(text))])
    with pytest.raises(ValueError, match=r"cut\.json"):
        dtmarl.Report.load(path)
