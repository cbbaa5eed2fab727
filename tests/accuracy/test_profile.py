"""The profile engine: its formula, its limits, its file, and the fit that it comes from."""

from __future__ import annotations

import json
import math
import runpy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dtmarl.accuracy import ENGINES
from dtmarl.accuracy.profile import RECALL_LIMIT, ProfileEngine, luck

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "dtmarl" / "accuracy" / "data" / "profile.json"
E, N, K = 3, 4, 10


@pytest.fixture(scope="module")
def engine():
    return ProfileEngine.load()


@pytest.fixture
def case():
    rng = np.random.default_rng(5)
    recall = rng.uniform(0.02, 0.98, (E, N, K))
    real = rng.poisson(30.0, (E, N, K)) * (rng.random((E, N, K)) < 0.6).astype(float)
    twin = rng.uniform(0.0, 40.0, (E, N, K)) * (rng.random((E, N, K)) < 0.5)
    noise = rng.standard_normal((E, N, K))
    real[0, 1] = twin[0, 1] = 0.0
    twin[1, 2] = 0.0
    real[2, 3] = 0.0
    return recall, real, twin, noise


def scalar_update(stored, kind, recall, real, twin, noise):
    """One user's update, written from the formulas in the module's docstring."""
    c = stored["coefficients"][kind]
    base = [math.log(p / (1 - p)) for p in stored["base_recall"]]
    m = [r + c["twin_weight"] * g for r, g in zip(real, twin, strict=True)]
    n = sum(m)
    if n == 0:
        return list(recall)
    updated = []
    for k in range(K):
        if kind == "incremental":
            p = min(max(recall[k], RECALL_LIMIT), 1 - RECALL_LIMIT)
            start = math.log(p / (1 - p))
        else:
            start = base[k]
            if kind == "full-scratch":
                start = math.log(RECALL_LIMIT / (1 - RECALL_LIMIT))
        opposed = sum(stored["rivals"][k][j] * m[j] for j in range(K))
        reach = 1 - math.exp(-(((m[k] + opposed) / c["samples_scale"]) ** c["samples_exponent"]))
        floor = c["share_floor"] * n
        target = base[k] + c["shift"]
        target += c["share_slope"] * math.log((m[k] + floor) / (opposed + floor))
        moved = start + reach * (target - start)
        rivals, rivalry = stored["rivals"][k], c["rivalry"]
        won = noise[k] - rivalry * sum(w * z for w, z in zip(rivals, noise, strict=True))
        won /= math.sqrt(1 + rivalry**2 * sum(w * w for w in rivals))
        moved += math.sqrt(reach) * c["luck_std"] * won
        updated.append(1 / (1 + math.exp(-moved)))
    return updated


@pytest.mark.parametrize(
    ("mode", "start", "kind"),
    [
        ("incremental", "base", "incremental"),
        ("full", "base", "full-base"),
        ("full", "scratch", "full-scratch"),
    ],
)
def test_update_equals_scalar_formula(case, mode, start, kind):
    stored = json.loads(PROFILE.read_text())
    updated = ProfileEngine.load(full_start=start).update(*case, mode=mode)
    for e in range(E):
        for n in range(N):
            expected = scalar_update(stored, kind, *(part[e, n].tolist() for part in case))
            np.testing.assert_allclose(updated[e, n], expected, rtol=1e-10)


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_without_images_nothing_moves(engine, case, mode):
    recall, real, twin, noise = case
    recall[0, 1, :2] = 0.0, 1.0
    updated = engine.update(recall, real, twin, noise, mode=mode)
    assert np.array_equal(updated[0, 1], recall[0, 1])
    moved = np.any(updated != recall, axis=-1)
    moved[0, 1] = True
    assert moved.all()


def test_few_images_move_recall_little(engine, case):
    recall, real, twin, noise = case
    moves = [
        np.abs(engine.update(recall, f * real, f * twin, 0 * noise) - recall).max()
        for f in (1e-6, 1e-3, 1.0)
    ]
    assert moves[0] < 1e-3 < moves[2]
    assert moves[0] < moves[1] < moves[2]


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_recall_stays_inside_the_unit_interval(engine, mode):
    recall = np.array([[[0.0, 1.0] * 5]])
    images = np.zeros((1, 1, K))
    images[..., 0] = 1e6
    for sign in (-30.0, 30.0):
        updated = engine.update(recall, images, 0 * images, sign + 0 * images, mode=mode)
        assert np.isfinite(updated).all()
        assert (updated > 0).all()
        assert (updated < 1).all()


def accuracy_after(engine, n, mix, weights, *, twin=False):
    none = np.zeros((1, 1, K))
    images = n * mix[None, None]
    real, generated = (none, images) if twin else (images, none)
    recall = engine.initial_recall(none)
    return float((engine.update(recall, real, generated, none) * weights).sum())


def test_specialising_helps_on_its_mix_and_hurts_elsewhere(engine):
    rng = np.random.default_rng(0)
    uniform = np.full(K, 1 / K)
    for _ in range(20):
        mix = rng.dirichlet(np.full(K, 0.3))
        before_mix, before_uniform = (
            accuracy_after(engine, 0.0, mix, weights) for weights in (mix, uniform)
        )
        assert accuracy_after(engine, 500.0, mix, mix) > before_mix
        assert accuracy_after(engine, 500.0, mix, uniform) < before_uniform


def test_more_images_of_a_concentrated_mix_help_more(engine):
    mix = np.full(K, 0.02)
    mix[[3, 8]] = 0.42
    gains = [accuracy_after(engine, n, mix, mix) for n in (0.0, 15.0, 60.0, 250.0)]
    assert all(a < b for a, b in pairwise(gains))


def test_old_contexts_among_the_twins_data_reduce_forgetting(engine):
    none = np.zeros((1, 1, K))
    recall = engine.initial_recall(none)
    new = none + 500.0 * np.eye(K)[3]
    replayed = none + 50.0
    alone = engine.update(recall, new, none, none)
    together = engine.update(recall, new, replayed, none)
    kept = (together - alone)[0, 0, np.arange(K) != 3]
    assert kept.mean() > 0.05
    assert kept.max() > 5 * max(-kept.min(), 0.0)
    hit = np.argmin((alone - recall)[0, 0])
    assert together[0, 0, hit] > alone[0, 0, hit]


def test_full_retraining_forgets_the_current_model(engine, case):
    recall, real, twin, noise = case
    full = engine.update(recall, real, twin, noise, mode="full")
    other = engine.update(recall[::-1], real, twin, noise, mode="full")
    trained = (real + twin).sum(axis=-1) > 0
    assert np.array_equal(full[trained], other[trained])


def test_every_user_starts_with_the_base_network(engine):
    recall = engine.initial_recall(np.random.default_rng(1).standard_normal((5, 3, K)))
    assert (recall == np.array(engine.base_recall)).all()


def test_luck_is_standard_normal_and_won_from_rivals(engine):
    rivals = np.array(engine.rivals)
    z = np.random.default_rng(1).standard_normal((100_000, K))
    won = luck(z, rivals, 0.7)
    assert np.abs(won.mean(axis=0)).max() < 0.02
    assert np.abs(won.std(axis=0) - 1).max() < 0.02
    assert np.array_equal(luck(z, rivals, 0.0), z)
    cat, dog, ship = 3, 5, 8
    correlation = np.corrcoef(won.T)
    assert correlation[cat, dog] < -0.3  # each the other's main rival
    assert abs(correlation[cat, ship]) < 0.15
    assert won.mean(axis=1).std() < 0.7 * z.mean(axis=1).std()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_and_torch_agree(engine, case, dtype):
    torch = pytest.importorskip("torch")
    arrays = [part.astype(dtype) for part in case]
    tensors = [torch.from_numpy(part) for part in arrays]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    pairs = [
        (engine.update(*arrays, mode=mode), engine.update(*tensors, mode=mode))
        for mode in ("incremental", "full")
    ]
    pairs.append((engine.initial_recall(arrays[3]), engine.initial_recall(tensors[3])))
    for array, tensor in pairs:
        assert array.dtype == dtype
        assert str(tensor.dtype) == f"torch.{dtype}"
        np.testing.assert_allclose(array, tensor.numpy(), rtol=tolerance)


@pytest.mark.filterwarnings("ignore")  # what the tracer says about cached functions
def test_update_traces_without_graph_breaks(engine, case):
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(part) for part in case]
    traced = torch.compile(
        lambda *arguments: engine.update(*arguments), fullgraph=True, backend="eager"
    )
    assert torch.equal(traced(*tensors), engine.update(*tensors))


def test_batch_neighbours_do_not_matter(engine, case):
    together = engine.update(*case)
    for e in range(E):
        alone = engine.update(*(part[e : e + 1] for part in case))
        assert np.array_equal(alone[0], together[e])


def test_arguments_are_left_alone(engine, case):
    copies = [part.copy() for part in case]
    engine.update(*case)
    assert all(np.array_equal(a, b) for a, b in zip(case, copies, strict=True))


def test_unknown_names_are_rejected(engine, case):
    with pytest.raises(ValueError, match="incremental"):
        engine.update(*case, mode="partial")
    with pytest.raises(ValueError, match="scratch"):
        replace(engine, full_start="middle")
    assert ENGINES["profile"] is ProfileEngine


def without(name):
    return lambda stored: stored.pop(name)


def setting(*path, value):
    def change(stored):
        for step in path[:-1]:
            stored = stored[step]
        stored[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("base_recall"), "base_recall"),
        (without("coefficients"), "coefficients"),
        (setting("format", value=99), "format 2, got 99"),
        (setting("base_recall", 0, value=1.0), r"in \(0, 1\)"),
        (setting("base_recall", value=[0.5]), "at least 2"),
        (setting("base_recall", value=7), "wrong form"),
        (setting("rivals", 0, value=[1.0]), "rivals: expected 10 rows"),
        (setting("coefficients", "full-base", "rivalry", value=-0.1), "rivalry"),
        (setting("coefficients", "incremental", "samples_scale", value=0.0), "samples_scale"),
        (setting("coefficients", "incremental", "shift", value=float("nan")), "shift"),
        (setting("coefficients", "full-base", "twin_weight", value=-0.1), "twin_weight"),
        (setting("coefficients", "incremental", "shift", value="much"), "shift: expected a number"),
        (setting("coefficients", "incremental", "slope", value=1.0), "wrong form.*slope"),
        (lambda stored: stored["coefficients"].pop("full-scratch"), "full-scratch"),
    ],
)
def test_bad_profile_files_say_what_is_wrong(tmp_path, change, message):
    stored = json.loads(PROFILE.read_text())
    change(stored)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=message) as caught:
        ProfileEngine.load(path)
    assert "changed.json" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1'])
def test_truncated_profile_files_are_rejected(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.json"):
        ProfileEngine.load(path)


def test_missing_profile_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.json"):
        ProfileEngine.load(tmp_path / "absent.json")


@pytest.fixture(scope="module")
def fit_program():
    return runpy.run_path(str(ROOT / "eval" / "fit_profile.py"))


@pytest.fixture(scope="module")
def sources(fit_program):
    """Designed updates, and episodes, as the fit reads them."""
    return (
        fit_program["read_measurements"](fit_program["MEASUREMENTS"]),
        fit_program["read_episodes"](fit_program["EPISODES"]),
    )


def test_committed_measurements_give_the_committed_profile(fit_program):
    stored = json.loads(PROFILE.read_text())
    rebuilt = fit_program["build_profile"](fit_program["MEASUREMENTS"], fit_program["EPISODES"])
    for name in ("measurements_sha256", "episodes_sha256"):
        assert rebuilt["source"][name] == stored["source"][name]
    assert rebuilt["base_recall"] == stored["base_recall"]
    for kind, values in stored["coefficients"].items():
        assert rebuilt["coefficients"][kind] == pytest.approx(values, rel=1e-2, abs=1e-3)
        for part, errors in rebuilt["errors"][kind].items():
            for name, value in errors.items():
                assert value == pytest.approx(stored["errors"][kind][part][name], abs=5e-4)


@pytest.mark.parametrize("source", ["designed", "episodes"])
def test_held_out_errors_in_the_profile_are_the_engines(engine, fit_program, sources, source):
    reported = json.loads(PROFILE.read_text())["errors"]["incremental"][source]["held_out"]
    stored, played = sources
    rows = (
        fit_program["designed_rows"](stored, "incremental", held_out=True)
        if source == "designed"
        else fit_program["episode_rows"](played, "incremental", held_out=True)
    )
    # Measured on a part of the test images, where the base network's recall is slightly different.
    bases = {tuple(row["base"]) for row in rows}
    assert len(bases) == 1
    c = replace(engine.coefficients["incremental"], rivalry=0.0)  # it moves no single class's mean
    engine = replace(engine, base_recall=bases.pop(), coefficients={**engine.coefficients} | {
        "incremental": c
    })  # fmt: skip
    columns = {
        name: np.array([[row[name]] for row in rows], float)
        for name in ("before", "after", "real", "twin", "mix")
    }
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    predicted = sum(
        w * engine.update(columns["before"], columns["real"], columns["twin"],
                          z + np.zeros_like(columns["before"]))
        for z, w in zip(nodes, weights / weights.sum(), strict=True)
    )  # fmt: skip
    error = predicted - columns["after"]
    assert reported["updates"] == len(rows) >= 30
    assert np.abs(error).mean() == pytest.approx(reported["recall_mae"], abs=1e-4)
    on_mix = np.abs((error * columns["mix"]).sum(axis=-1)).mean()
    assert on_mix == pytest.approx(reported["mix_accuracy_mae"], abs=1e-4)
    on_uniform = np.abs(error.mean(axis=-1)).mean()
    assert on_uniform == pytest.approx(reported["uniform_accuracy_mae"], abs=1e-4)
    assert max(on_mix, on_uniform) <= 0.03


def test_luck_is_found_again_in_repeated_updates(fit_program):
    engine = ProfileEngine.load()
    true = engine.coefficients["incremental"]
    shape = (1, 3000, K)
    noise = np.random.default_rng(4).standard_normal(shape)
    many = np.full(shape, 400.0)
    start = engine.initial_recall(noise)
    [repeats] = engine.update(start, many, 0 * many, noise)
    found = fit_program["fit_luck"](repeats, np.array(engine.rivals))
    assert found["luck_std"] == pytest.approx(true.luck_std, rel=0.05)
    assert found["rivalry"] == pytest.approx(true.rivalry, abs=0.05)


def test_what_is_fitted_is_the_mean_over_the_luck(engine, fit_program):
    shape = (1, 4000, K)
    noise = np.random.default_rng(5).standard_normal(shape)
    real = np.zeros(shape) + 40.0 * (np.arange(K) % 3)
    start = engine.initial_recall(noise)
    [after] = engine.update(start, real, 0 * real, noise)
    base = np.log(start / (1 - start))
    rows = (base, real, real, 0 * real, start, start)
    updates = fit_program["Updates"](["one"], np.zeros(1, bool), *(row[0, :1] for row in rows))
    rivals, c = np.array(engine.rivals), engine.coefficients["incremental"]
    [mean], [middle], _ = fit_program["predict"]("incremental", updates, rivals, c)
    off_mean, off_middle = (np.abs(one - after.mean(axis=0)).mean() for one in (mean, middle))
    assert off_mean < 0.002
    assert off_mean < 0.5 * off_middle


def test_held_out_updates_share_nothing_with_fitted_ones(fit_program, sources):
    stored, played = sources
    rows = [
        [
            row
            for kind in ("incremental", "full-base", "full-scratch")
            for row in (
                *fit_program["designed_rows"](stored, kind, held_out=wanted),
                *fit_program["episode_rows"](played, kind, held_out=wanted),
            )
        ]
        for wanted in (True, False)
    ]
    chains = [{row["chain"] for row in part} for part in rows]
    assert chains[0]
    assert not chains[0] & chains[1]
    concentrated = [
        {tuple(np.round(row["mix"], 6)) for row in part if max(row["mix"]) > 0.1001}
        for part in rows
    ]
    assert not concentrated[0] & concentrated[1]


def test_seeds_that_validate_the_profile_are_not_fitted(sources):
    real = json.loads((ROOT / "eval" / "results" / "real_retraining.json").read_text())
    validating = {run["seed"] for run in real["runs"]}
    assert validating
    assert not validating & {run["seed"] for run in sources[1]["runs"]}
