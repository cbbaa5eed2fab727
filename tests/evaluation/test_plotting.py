import sys

import pytest

import dtmarl
from dtmarl import plotting

SMALL = dtmarl.scenario("paper-v0").replace(frames_per_episode=2, slots_per_frame=3)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def reports():
    return [dtmarl.evaluate(name, SMALL, seeds=[0, 1]) for name in ("random", "local-only")]


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.parametrize("plot", [plotting.plot_reports, plotting.plot_means])
def test_figures_are_written_whole(plot, reports, tmp_path):
    pytest.importorskip("matplotlib")
    path = plot(reports, tmp_path / "new" / "figure.png")
    assert path.read_bytes().startswith(PNG)
    assert [entry.name for entry in path.parent.iterdir()] == ["figure.png"]


def test_curves_show_every_report_the_threshold_and_the_frames(reports, tmp_path):
    pytest.importorskip("matplotlib")
    text = plotting.plot_reports(reports, tmp_path / "figure.svg").read_text()
    assert text.startswith("<?xml")
    for label in ("random", "local-only", "threshold 0.85", "system delay", "accuracy"):
        assert f"<!-- {label}" in text


def test_a_single_report_is_drawn_above_its_bounds(tmp_path):
    pytest.importorskip("matplotlib")
    oracle = dtmarl.evaluate("oracle", SMALL, seeds=[0, 1])
    one = plotting.plot_reports([oracle], tmp_path / "one.svg").read_text()
    two = plotting.plot_reports([oracle, oracle], tmp_path / "two.svg").read_text()
    assert "<!-- oracle (truth)" in one
    for label in ("optimum, same frame decisions", "bound over all associations"):
        assert f"<!-- {label}" in one
        assert label not in two


def test_one_seed_and_many_rows_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    single = [
        dtmarl.evaluate(name, SMALL, seeds=[0], controller=scheme)
        for name in ("random", "local-only")
        for scheme in dtmarl.SCHEMES
    ]
    assert plotting.plot_reports(single, tmp_path / "a.png").stat().st_size > 10_000
    assert plotting.plot_means(single, tmp_path / "b.png").stat().st_size > 10_000


def test_wrong_input_is_refused(reports, tmp_path):
    pytest.importorskip("matplotlib")
    longer = dtmarl.evaluate("random", SMALL.replace(frames_per_episode=3), seeds=[0, 1])
    for wrong in ([], [reports[0], longer]):
        with pytest.raises(ValueError, match="same length"):
            plotting.plot_reports(wrong, tmp_path / "figure.png")
    with pytest.raises(ValueError, match="reports and metrics"):
        plotting.plot_means([], tmp_path / "figure.png")
    with pytest.raises(ValueError, match="accuracy"):
        plotting.plot_means(reports, tmp_path / "figure.png", metrics=["nonsense"])
    with pytest.raises(ValueError, match="suffixes"):
        plotting.plot_reports(reports, tmp_path / "figure.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plot", [plotting.plot_reports, plotting.plot_means])
def test_the_lack_of_matplotlib_is_said_with_the_cure(plot, reports, tmp_path, without_matplotlib):
    with pytest.raises(ImportError, match=r"pip install 'dtmarl\[plot\]'"):
        plot(reports, tmp_path / "figure.png")
