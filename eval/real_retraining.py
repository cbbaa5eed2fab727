"""The paper's Fig. 2(a) and 2(b) from real networks: every user's ResNet-18 is really retrained.

    python eval/real_retraining.py --base runs/base --pictures docs
    python eval/real_retraining.py --base runs/base --quick --pictures out    # 2 frames, 2 seeds
    python eval/real_retraining.py --show FILE.json --pictures docs           # plays nothing

Every finished episode is kept in the results file: a killed run goes on where it stopped. Episodes
of one seed play in the same world under each scheme, with the same agents' policy.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dtmarl
from dtmarl.accuracy.base_network import choose_device
from dtmarl.accuracy.recording import Recorder, read_episodes
from dtmarl.accuracy.resnet18 import ResNet18Engine
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.comparison import REFERENCE_POLICY
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import Estimate, mean_estimate, mean_interval
from dtmarl.evaluation.table import per_cent
from dtmarl.evaluation.traces import trace

RESULTS = Path(__file__).parent / "results" / "real_retraining.json"
QUICK_RESULTS = Path("out") / "real_retraining_quick.json"
ORDER = ("proposed", "without-twin", "single-timescale", "without-incremental")
CHEAP = ORDER[:2]
"""Schemes that take the least time: they are played first, the others seed by seed."""
FIGURES = {
    "2a": ("accuracy", ("proposed", "without-twin", "without-incremental")),
    "2b": ("breakout_rate", ("proposed", "single-timescale")),
}
SEEDS = range(6)
LEAST_PAIRS = 5
"""The interval of fewer pairs says little: with two it ends at the two themselves."""
QUICK = {"frames": 2, "seeds": range(2), "test_per_class": 40}
COLOURS = ("#0072B2", "#D55E00", "#009E73")
Run = dict[str, Any]


@lru_cache(maxsize=1)
def load_engine(base: Path, test_per_class: int) -> ResNet18Engine:
    """A process's engine; an episode starts it anew."""
    return ResNet18Engine.load(base, test_per_class=test_per_class, threads=1)


def play(origin: dict[str, Any], scheme: str, seed: int, base: Path) -> Run:
    """One episode with real networks, slot by slot and user by user (T slots, N users)."""
    config, policy = ScenarioConfig().replace(**origin["scenario"]), origin["policy"]
    engine = load_engine(base, origin["test_per_class"])
    recorder = Recorder(engine, origin["training_seed"])
    started, spent = time.perf_counter(), dict(engine.seconds)
    traced = trace(config, policy, scheme, seed, recorder)
    return {
        "scheme": scheme,
        "seed": seed,
        "base_recall": np.round(engine.base_recall, 4).tolist(),
        **traced,
        "updates": recorder.updates,
        "seconds": round(time.perf_counter() - started, 1),
        "training_seconds": round(engine.seconds["training"] - spent["training"], 1),
        "testing_seconds": round(engine.seconds["testing"] - spent["testing"], 1),
    }


def open_worker() -> None:
    """Set up a worker process: one thread, and no life after a parent that was killed."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def describe(
    config: ScenarioConfig, policy: str, base: Path, test_per_class: int, training_seed: int
) -> dict[str, Any]:
    """Where results come from; those of another origin are not added to."""
    report = json.loads((base / "base.json").read_text())
    return {
        "scenario": config.to_dict(),
        "policy": policy,
        "test_per_class": test_per_class,
        "training_seed": training_seed,
        "weights_sha256": report["weights_sha256"],
        "arrays_sha256": report["arrays_sha256"],
        "base_accuracy": report["accuracy"],
    }


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Write results, one run a line, whole or not at all."""
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in content["runs"])
    head = {name: value for name, value in content.items() if name != "runs"}
    write_atomically(path, f'{json.dumps(head, indent=1)[:-2]},\n "runs": [\n{runs}\n]}}\n')


def run_missing(
    content: dict[str, Any], path: Path, wanted: Sequence[tuple[str, int]], base: Path, workers: int
) -> None:
    """Play the episodes that are not there yet, and keep each one as soon as it is over."""
    origin = content["origin"]
    done = {(run["scheme"], run["seed"]) for run in content["runs"]}
    waiting = [pair for pair in wanted if pair not in done]
    started = time.perf_counter()
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), open_worker
    ) as executor:
        futures = [executor.submit(play, origin, scheme, seed, base) for scheme, seed in waiting]
        for number, future in enumerate(as_completed(futures), 1):
            run = future.result()
            content["runs"].append(run)
            content["runs"].sort(key=lambda run: (ORDER.index(run["scheme"]), run["seed"]))
            write_results(path, content)
            elapsed = time.perf_counter() - started
            print(
                f"{number}/{len(waiting)} {run['scheme']} seed {run['seed']}: "
                f"{len(run['updates'])} retrainings in {run['seconds']:.0f} s; "
                f"{elapsed:.0f} s so far",
                file=sys.stderr,
                flush=True,
            )


def curve(run: Run, name: str) -> np.ndarray:
    """Mean over the users of a slot, [T]: accuracy, or the share that breaks out."""
    present = np.array(run["present"], float)
    values = np.array(run["accuracy" if name == "accuracy" else "breakout"], float)
    return np.asarray((present * values).sum(1) / present.sum(1))


def measures(run: Run) -> dict[str, float]:
    """Figures of one episode; user-slots weigh the same."""
    present = np.array(run["present"], bool)
    breakout = curve(run, "breakout_rate")
    return {
        "accuracy": float(np.array(run["accuracy"])[present].mean()),
        "breakout_rate": float(np.array(run["breakout"])[present].mean()),
        "breakout_jump": float(np.diff(breakout).max(initial=0.0)),
        "retrain_rate": float(np.array(run["retrain"])[present].mean()),
    }


def complete_seeds(content: dict[str, Any], schemes: Sequence[str]) -> list[int]:
    """Seeds that every one of the schemes has played."""
    played = [{r["seed"] for r in content["runs"] if r["scheme"] == scheme} for scheme in schemes]
    return sorted(set.intersection(*played))


def runs_of(content: dict[str, Any], scheme: str, seeds: Sequence[int]) -> list[Run]:
    """A scheme's runs in the order of the seeds."""
    by_seed = {run["seed"]: run for run in content["runs"] if run["scheme"] == scheme}
    return [by_seed[seed] for seed in seeds]


def verdict(estimate: Estimate, pairs: int) -> str:
    """Whether a paired difference that the paper has above zero is so; few pairs decide nothing."""
    if pairs < LEAST_PAIRS or math.isnan(estimate.low) or estimate.low <= 0.0 <= estimate.high:
        return "undecided"
    return "holds" if estimate.low > 0.0 else "does not hold"


def to_markdown(content: dict[str, Any]) -> str:
    """Table of the schemes, and what becomes of the claims."""
    schemes = [s for s in ORDER if any(run["scheme"] == s for run in content["runs"])]
    names = ("accuracy", "breakout_rate", "breakout_jump", "retrain_rate")
    lines = [
        "| scheme | seeds | accuracy (%) | break-outs (%) | largest rise (%) | retraining (%) "
        "| minutes per episode | of it training (%) | testing (%) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for scheme in schemes:
        runs = runs_of(content, scheme, complete_seeds(content, [scheme]))
        cells = [per_cent(mean_estimate([measures(run)[name] for run in runs])) for name in names]
        whole, *parts = (
            sum(run[name] for run in runs)
            for name in ("seconds", "training_seconds", "testing_seconds")
        )
        cells.append(f"{whole / 60 / len(runs):.1f}")
        cells += [f"{100 * part / whole:.1f}" for part in parts]
        lines.append(f"| {scheme} | {len(runs)} | {' | '.join(cells)} |")
    lines += ["", "| figure | the paper says | measured, paired by seed | verdict |"]
    lines.append("|---|---|---|---|")
    claims = [
        ("2(a)", "accuracy above that of {}", "accuracy", "without-twin", 1.0),
        ("2(a)", "accuracy above that of {}", "accuracy", "without-incremental", 1.0),
        ("2(b)", "fewer break-outs than {}", "breakout_rate", "single-timescale", -1.0),
        ("2(b)", "less abrupt ones than {}", "breakout_jump", "single-timescale", -1.0),
    ]
    for figure, statement, name, other, sign in claims:
        if {"proposed", other} - set(schemes):
            continue
        seeds = complete_seeds(content, ("proposed", other))
        if not seeds:
            continue
        mine, theirs = (
            np.array([measures(run)[name] for run in runs_of(content, scheme, seeds)])
            for scheme in ("proposed", other)
        )
        estimate = mean_estimate(sign * (mine - theirs))
        lines.append(
            f"| {figure} | {statement.format(other)} | {per_cent(estimate)} points "
            f"(paper: above 0), {len(seeds)} pairs | {verdict(estimate, len(seeds))} |"
        )
    minutes = sum(run["seconds"] for run in content["runs"]) / 60
    lines += ["", f"{len(content['runs'])} episodes, {minutes:.0f} minutes: {content['machine']}."]
    return "\n".join(lines) + "\n"


def draw(content: dict[str, Any], folder: Path) -> None:
    """Draw both figures, one PNG each: means over seeds with 95 % bands."""
    from matplotlib.figure import Figure

    for figure_name, (name, shown) in FIGURES.items():
        schemes = [s for s in shown if complete_seeds(content, [s])]
        seeds = complete_seeds(content, schemes) if schemes else []
        figure = Figure(figsize=(8.0, 3.6), layout="constrained")
        axes = figure.subplots()
        for colour, line, scheme in zip(COLOURS, ("-", "--", "-."), schemes, strict=False):
            if not seeds:
                break
            values = np.stack([curve(run, name) for run in runs_of(content, scheme, seeds)])
            slots = np.arange(values.shape[1])
            axes.plot(slots, values.mean(0), color=colour, linestyle=line, label=scheme)
            low, high = mean_interval(values, num_resamples=1999)
            if np.isfinite(low).all():
                axes.fill_between(slots, low, high, color=colour, alpha=0.14, linewidth=0)
        threshold = content["origin"]["scenario"]["learning"]["accuracy_threshold"]
        if name == "accuracy":
            axes.axhline(threshold, color="0.3", linewidth=1, linestyle=":")
            axes.text(0, threshold, "required", fontsize=8, color="0.3", va="bottom")
        axes.set_ylabel("accuracy" if name == "accuracy" else "share of users that break out")
        axes.set_xlabel("slot")
        axes.set_title(
            f"Fig. {figure_name[0]}({figure_name[1]}), real ResNet-18s: mean of "
            f"{len(seeds)} seeds with 95 % bands",
            fontsize=9,
            loc="left",
        )
        corner = "lower right" if name == "accuracy" else "upper right"
        axes.legend(frameon=False, fontsize=9, ncols=max(len(schemes), 1), loc=corner)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"real_retraining_{figure_name}.png"
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
        os.replace(temporary, path)


def main() -> int:
    """Play or read, print, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, help="base folder; needed to play")
    parser.add_argument("--scenario", default="paper-v0")
    parser.add_argument("--policy", default=REFERENCE_POLICY)
    parser.add_argument("--schemes", nargs="+", choices=ORDER, default=list(ORDER))
    parser.add_argument("--seeds", type=read_seeds, help="such as 0:6, the default")
    parser.add_argument("--frames", type=int, help="of an episode; default: the scenario's")
    parser.add_argument("--test-per-class", type=int, help="test images; default 100")
    parser.add_argument(
        "--training-seed", type=int, default=0, help="another one: other images, order, stores"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="3 frames, 2 seeds, 40 test images")
    parser.add_argument(
        "--out", type=Path, help=f"default: {RESULTS.name}, and {QUICK_RESULTS} for --quick"
    )
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to draw Fig. 2")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show it, play nothing")
    options = parser.parse_args()
    if options.show is None and options.base is None:
        parser.error("expected --base FOLDER, as train/train_base.py writes it, or --show FILE")
    try:
        path = options.show or options.out or (QUICK_RESULTS if options.quick else RESULTS)
        if options.show is not None:
            content = read_episodes(path)
        else:
            quick = QUICK if options.quick else {}
            config = dtmarl.scenario(options.scenario)
            frames = options.frames or quick.get("frames", config.frames_per_episode)
            config = config.replace(frames_per_episode=frames)
            tested = options.test_per_class or quick.get("test_per_class", 100)
            origin = describe(config, options.policy, options.base, tested, options.training_seed)
            content = read_episodes(path) if path.exists() else {"origin": origin, "runs": []}
            for name, value in origin.items():
                if content["origin"].get(name) != value:
                    raise ValueError(
                        f"{path}: its {name} is not this run's; give another file with --out"
                    )
            content["machine"] = (
                f"{platform.machine()}, {os.cpu_count()} cores, {options.workers} episodes at a "
                f"time, one thread each, on {choose_device()}, torch {torch.__version__}"
            )
            seeds = options.seeds or quick.get("seeds", SEEDS)
            cheap, dear = ([s for s in options.schemes if (s in CHEAP) == c] for c in (True, False))
            wanted = [(scheme, seed) for scheme in cheap for seed in seeds]
            wanted += [(scheme, seed) for seed in seeds for scheme in dear]
            run_missing(content, path, wanted, options.base, options.workers)
        print(to_markdown(content), end="")
        if options.pictures is not None:
            draw(content, options.pictures)
    except BrokenProcessPool:
        parser.exit(1, f"an episode's process was killed; run again to go on from {path}\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
