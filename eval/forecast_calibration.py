"""How good the twin's forecast of frame accuracy is, eqs (13) and (14), and what it decides.

    python eval/forecast_calibration.py                     # profile engine, two scenarios
    python eval/forecast_calibration.py --real eval/results/real_retraining.json --pictures docs
    python eval/forecast_calibration.py --show FILE.json    # plays nothing

Before each frame three predictions of a user's mean accuracy over it are taken down, all from what
the twin has at that time:

* ``learnt``, f_c of eq (14): the user's newest frame plus the learnt change at its place and age;
* ``last frame``, eq (13): the newest frame's measured accuracy, as it is;
* ``mixture``, Σ_x q(x) ρ(x): q is the class mix that the twin estimates from the user's store, ρ
  the recall of the present model on test images, which is known where the model was trained.

They are held against the frame's true mean accuracy, and against C̄: a retrain is *missed* where
that falls to C̄ or below and the prediction stays above, *false* the other way round. The first
frame is left out, as all three say there what the base network scores. ``--real`` names episodes
that ``eval/real_retraining.py`` played with real networks; they are played again from its records.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dtmarl
from dtmarl.accuracy import AccuracyEngine
from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.accuracy.recording import Replay, read_episodes
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.comparison import REFERENCE_POLICY
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import Estimate, mean_estimate
from dtmarl.evaluation.table import per_cent
from dtmarl.policies import policy as find_policy

RESULTS = Path(__file__).parent / "results" / "forecast_calibration.json"
SCENARIOS = ("paper-v0", "vehicular-v0")
SCHEME = "proposed"
PREDICTORS = ("learnt", "last frame", "mixture")
MEASURES = {
    "bias": "predicted − true",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "missed": "missed retrains, share of user-frames",
    "false": "false retrains, share of user-frames",
}
BINS = 8


class Frames(NamedTuple):
    """One episode, a row for each user in each frame but the first."""

    predicted: np.ndarray  # [n, 3] as PREDICTORS
    true: np.ndarray  # [n]


def play(
    config: ScenarioConfig, policy: str, seed: int, engine: AccuracyEngine
) -> tuple[Frames, np.ndarray]:
    """One episode under the proposed scheme; also the accuracy of every slot, [T, N]."""
    env = dtmarl.parallel_env(config, controller=SCHEME, accuracy=engine)
    raw = env.unwrapped
    agent = find_policy(policy)
    agent.reset(config, seed)
    observations, _ = env.reset(seed=seed)
    predicted, true, accuracy = [], [], []
    while env.agents:
        state = raw.snapshot
        slot = state.slot % config.slots_per_frame
        if slot == 0:
            view = raw.twin_view()  # what the decision in force was taken on
            mixture = (view.class_mix * state.recall).sum(axis=-1)
            here = state.frame.present_mask[0]
            now = [p[0, here] for p in (view.forecast_accuracy, view.frame_accuracy, mixture)]
        observations, *_ = env.step(agent.act({name: observations[name] for name in env.agents}))
        accuracy.append(raw.outcome.accuracy[0])
        if slot == config.slots_per_frame - 1 and state.slot >= config.slots_per_frame:
            predicted.append(np.stack(now, axis=-1))
            true.append(np.mean(accuracy[-config.slots_per_frame :], axis=0)[here])
    return Frames(np.concatenate(predicted), np.concatenate(true)), np.array(accuracy)


def replayed(content: dict[str, Any]) -> list[tuple[int, Frames]]:
    """The real episodes of the proposed scheme in a file, by seed.

    Raises:
        ValueError: an episode does not come out as it was recorded.
    """
    config = ScenarioConfig().replace(**content["origin"]["scenario"])
    result = []
    for run in content["runs"]:
        if run["scheme"] != SCHEME:
            continue
        engine = Replay(run["base_recall"], run["updates"])
        frames, accuracy = play(config, content["origin"]["policy"], run["seed"], engine)
        if np.abs(accuracy - np.array(run["accuracy"])).max() > 1e-3:
            raise ValueError(f"seed {run['seed']}: the episode does not come out as recorded")
        result.append((run["seed"], frames))
    return result


def measures(frames: Frames, threshold: float) -> np.ndarray:
    """Figures of one episode, [measure, predictor]."""
    error = frames.predicted - frames.true[:, None]
    due, said = (frames.true <= threshold)[:, None], frames.predicted <= threshold
    return np.stack(
        [
            error.mean(axis=0),
            np.abs(error).mean(axis=0),
            np.sqrt((error**2).mean(axis=0)),
            (due & ~said).mean(axis=0),
            (~due & said).mean(axis=0),
        ]
    )


def calibration(episodes: Sequence[Frames]) -> dict[str, list[list[float]]]:
    """By predictor: mean prediction, mean truth and number in bins of as many predictions each."""
    predicted = np.concatenate([frames.predicted for frames in episodes])
    true = np.concatenate([frames.true for frames in episodes])
    result = {}
    for column, name in enumerate(PREDICTORS):
        order = np.argsort(predicted[:, column], kind="stable")
        result[name] = [
            [
                round(float(predicted[part, column].mean()), 4),
                round(float(true[part].mean()), 4),
                len(part),
            ]
            for part in np.array_split(order, BINS)
        ]
    return result


def summary(episodes: Sequence[tuple[int, Frames]], threshold: float) -> dict[str, Any]:
    """Means over seeds with intervals, paired differences of the errors, and the calibration."""
    figures = np.stack([measures(frames, threshold) for _, frames in episodes])
    mae = figures[:, list(MEASURES).index("mae")]
    return {
        "seeds": [seed for seed, _ in episodes],
        "user_frames": sum(len(frames.true) for _, frames in episodes),
        "due": mean_estimate([(f.true <= threshold).mean() for _, f in episodes]).to_dict(),
        "measures": {
            name: {
                measure: mean_estimate(figures[:, row, column]).to_dict()
                for row, measure in enumerate(MEASURES)
            }
            for column, name in enumerate(PREDICTORS)
        },
        "mae_less_than_learnt": {
            name: mean_estimate(mae[:, 0] - mae[:, column]).to_dict()
            for column, name in enumerate(PREDICTORS)
            if column
        },
        "calibration": calibration([frames for _, frames in episodes]),
    }


def estimate(stored: dict[str, float | None]) -> Estimate:
    """An estimate as it was written."""
    return Estimate(*(np.nan if stored[f] is None else stored[f] for f in Estimate._fields))


def to_markdown(content: dict[str, Any]) -> str:
    """One row for each case and predictor, in points."""
    lines = [
        "| engine, scenario | predictor | bias | MAE | RMSE | missed retrains | false retrains |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, result in content["cases"].items():
        for name in PREDICTORS:
            cells = [per_cent(estimate(result["measures"][name][m])) for m in MEASURES]
            lines.append(f"| {case}, {len(result['seeds'])} seeds | {name} | {' | '.join(cells)} |")
    lines += ["", "Points of accuracy, and per cent of user-frames; 95 % intervals over seeds."]
    for case, result in content["cases"].items():
        for name, stored in result["mae_less_than_learnt"].items():
            gap = per_cent(estimate(stored))
            lines.append(f"{case}: MAE of learnt − {name}: {gap} points, paired by seed.")
    return "\n".join(lines) + "\n"


def draw(content: dict[str, Any], path: Path) -> None:
    """Predicted against true frame accuracy, one panel for each case."""
    from matplotlib.figure import Figure

    cases = content["cases"]
    figure = Figure(figsize=(3.6 * len(cases), 4.0), layout="compressed")
    panels = figure.subplots(1, len(cases), squeeze=False)[0]
    for axes, (case, result) in zip(panels, cases.items(), strict=True):
        points = np.array([p[:2] for name in PREDICTORS for p in result["calibration"][name]])
        ends = points.min() - 0.01, points.max() + 0.01
        axes.plot(ends, ends, color="0.6", linewidth=1)
        for colour, mark, name in zip(
            ("#0072B2", "#D55E00", "#009E73"), ("o-", "s--", "^-."), PREDICTORS, strict=True
        ):
            x, y, _ = np.array(result["calibration"][name]).T
            axes.plot(x, y, mark, color=colour, markersize=4, linewidth=1.2, label=name)
        axes.set_title(f"{case}, {len(result['seeds'])} seeds", fontsize=9, loc="left")
        axes.set_xlabel("predicted frame accuracy")
        axes.set_aspect("equal", adjustable="box")
    panels[0].set_ylabel("true frame accuracy, mean of a bin")
    panels[0].legend(frameon=False, fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, picture.getvalue())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Play every case."""
    cases: dict[str, Any] = {}
    for name in options.scenario or SCENARIOS:
        config = dtmarl.scenario(name)
        engine = ProfileEngine.load()
        played = [(s, play(config, options.policy, s, engine)[0]) for s in options.seeds]
        cases[f"profile, {name}"] = summary(played, config.learning.accuracy_threshold)
    if options.real is not None:
        content = read_episodes(options.real)
        scenario = ScenarioConfig().replace(**content["origin"]["scenario"])
        if played := replayed(content):
            cases[f"resnet18, {scenario.id}"] = summary(
                played, scenario.learning.accuracy_threshold
            )
    return {"measures": MEASURES, "scheme": SCHEME, "policy": options.policy, "cases": cases}


def main() -> int:
    """Play or read, write, print and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--scenario", nargs="+", metavar="ID", help="default: " + ", ".join(SCENARIOS)
    )
    parser.add_argument("--policy", default=REFERENCE_POLICY)
    parser.add_argument("--seeds", type=read_seeds, default=range(20), help="default: 0:20")
    parser.add_argument("--real", type=Path, metavar="FILE", help="of real_retraining.py")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"default: {RESULTS.name}")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to draw")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show it, play nothing")
    options = parser.parse_args()
    try:
        if options.show is not None:
            content = json.loads(options.show.read_text(encoding="utf-8"))
        else:
            content = run(options)
            write_atomically(options.out, json.dumps(content, indent=1) + "\n")
        print(to_markdown(content), end="")
        if options.pictures is not None:
            draw(content, options.pictures / "real_retraining_forecast.png")
    except (KeyError, TypeError) as error:
        parser.error(f"{options.show}: expected results of this program: {error!r}")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
