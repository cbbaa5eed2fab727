"""The vector environment against the single one, torch against NumPy, and its own contract."""

import numpy as np
import pytest
import torch
from playing import short

import dtmarl
from dtmarl.backend import to_numpy
from dtmarl.frame.association import SOLVERS

SEEDS = (3, 4, 5)
SCHEMES = ("proposed", "without-twin", "single-timescale")


def agents_of(env, actions, e):
    """The actions of environment e by agent, for those present."""
    rows = {f"bs_{m}": row for m, row in enumerate(actions["bs"][e])}
    rows |= {f"mu_{n}": row for n, row in enumerate(actions["mu"][e])}
    return {agent: rows[agent] for agent in env.agents}


def assert_row(observations, mask, e, alone):
    for m, row in enumerate(observations["bs"][e]):
        np.testing.assert_array_equal(row, alone[f"bs_{m}"])
    for n, row in enumerate(observations["mu"][e]):
        if mask[e, n]:
            np.testing.assert_array_equal(row, alone[f"mu_{n}"])
        else:
            assert not row.any()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_an_environment_of_a_batch_is_the_single_one_bit_for_bit(scenario, scheme):
    """Over a full episode and into the next, whatever the neighbours do."""
    config = dtmarl.scenario(scenario)
    vector = dtmarl.vector_env(config, num_envs=len(SEEDS), controller=scheme)
    singles = [dtmarl.parallel_env(config, controller=scheme) for _ in SEEDS]
    observations, infos = vector.reset(seed=SEEDS)
    for e, (env, seed) in enumerate(zip(singles, SEEDS, strict=True)):
        alone, _ = env.reset(seed=seed)
        assert_row(observations, infos["mu_mask"], e, alone)
    for slot in range(config.slots_per_episode + 3):
        actions = vector.sample_actions(seed=slot)
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        over = (slot + 1) % config.slots_per_episode == 0
        assert not terminated.any()
        assert (truncated == over).all()
        assert ("final_obs" in infos) == over
        for e, env in enumerate(singles):
            acted = list(env.agents)
            alone, reward, _, _, info = env.step(agents_of(env, actions, e))
            assert rewards[e] == reward["bs_0"]
            assert infos["system_delay_s"][e] == info["bs_0"]["system_delay_s"]
            for agent in acted[config.num_base_stations :]:
                n = int(agent[3:])
                assert infos["mu_acted"][e, n]
                assert infos["delay_s"][e, n] == info[agent]["delay_s"]
                assert infos["accuracy"][e, n] == info[agent]["accuracy"]
                assert infos["breakout"][e, n] == info[agent]["breakout"]
            if over:
                assert_row(infos["final_obs"], infos["final_mu_mask"], e, alone)
                alone, _ = env.reset()
            assert_row(observations, infos["mu_mask"], e, alone)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_torch_is_numpy_given_the_same_noise(scenario, scheme):
    """Double precision to 1e-9, single to 1e-4 of a delay, over a full episode.

    In single precision a rounding may turn a decision that was on the edge; from there on the
    environment lives another life, which is not compared.
    """
    common = {"num_envs": 4, "controller": scheme}
    exact = dtmarl.vector_env(scenario, **common)
    others = {
        dtype: dtmarl.vector_env(scenario, backend="torch", dtype=dtype, noise="pcg64", **common)
        for dtype in ("float64", "float32")
    }
    together = {dtype: np.ones(4, dtype=bool) for dtype in others}
    first, _ = exact.reset(seed=20)
    for env in others.values():
        for kind, array in env.reset(seed=20)[0].items():
            np.testing.assert_allclose(to_numpy(array), first[kind], atol=1e-4)
    for slot in range(exact.config.slots_per_episode + 2):
        actions = exact.sample_actions(seed=slot)
        tensors = {kind: torch.from_numpy(array) for kind, array in actions.items()}
        observations, rewards, *_, infos = exact.step(actions)
        for dtype, env in others.items():
            relative, absolute = (1e-9, 1e-6) if dtype == "float64" else (1e-4, 1e-3)
            seen, got, *_, told = env.step(tensors)
            rows = together[dtype]
            for name in ("system_delay_s", "delay_s", "accuracy"):
                np.testing.assert_allclose(
                    to_numpy(told[name])[rows], infos[name][rows], rtol=relative, atol=1e-9
                )
            np.testing.assert_allclose(to_numpy(got)[rows], rewards[rows], rtol=relative)
            np.testing.assert_array_equal(to_numpy(told["mu_mask"]), infos["mu_mask"])
            for name in ("association_mask", "retrain_mask"):
                ours = to_numpy(getattr(env.snapshot.control, name))
                same = ours == getattr(exact.snapshot.control, name)
                rows &= same.reshape(4, -1).all(axis=1)
            for kind in ("bs", "mu"):
                ours = to_numpy(seen[kind])
                np.testing.assert_allclose(ours[rows], observations[kind][rows], atol=absolute)
    assert together["float64"].all()
    assert together["float32"].sum() >= 2


@pytest.mark.parametrize("name", [*sorted(SOLVERS), "planned"])
def test_every_solver_and_controller_decides_for_tensors_as_for_arrays(name):
    config = short("paper-v0", max_users=6)
    chosen = name if name == "planned" else dtmarl.SCHEMES["proposed"].replace(association=name)
    decisions = []
    for backend in ("numpy", "torch"):
        options = {} if backend == "numpy" else {"dtype": "float64", "noise": "pcg64"}
        env = dtmarl.vector_env(config, num_envs=3, controller=chosen, backend=backend, **options)
        env.reset(seed=2)
        control = env.snapshot.control
        decisions.append((to_numpy(control.association_mask), to_numpy(control.retrain_mask)))
        env.step(env.sample_actions(0))
    for ours, theirs in zip(*decisions, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def run(env, seed, rows, slots=9):
    """Rewards and observations of some environments; each acts by its own seed."""
    observations, _ = env.reset(seed=seed)
    m, n = env.config.num_base_stations, env.config.max_users
    figures = [{kind: array[rows] for kind, array in observations.items()}]
    for slot in range(slots):
        drawn = [np.random.default_rng([s, slot]).random(m * n + n * (1 + m)) for s in seed]
        weights = torch.from_numpy(np.stack(drawn)).float()
        actions = {
            "bs": weights[:, : m * n].reshape(-1, m, n),
            "mu": weights[:, m * n :].reshape(-1, n, 1 + m),
        }
        observations, rewards, *_ = env.step(actions)
        figures.append({kind: array[rows] for kind, array in observations.items()})
        figures.append({"reward": rewards[rows]})
    return figures


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_neighbours_do_not_matter_with_counter_noise(scenario):
    """Small sums may be taken in another order in batches of another size: one rounding."""
    config = short(scenario, frames=3)
    many = dtmarl.vector_env(config, num_envs=5, backend="torch")
    few = dtmarl.vector_env(config, num_envs=2, backend="torch")
    among = run(many, [1, 7, 2, 8, 3], [1, 3])
    alone = run(few, [7, 8], [0, 1])
    for one, other in zip(among, alone, strict=True):
        for name, array in one.items():
            torch.testing.assert_close(array, other[name], rtol=1e-5, atol=1e-5)
    again = run(many, [1, 7, 2, 8, 3], [1, 3])
    for one, other in zip(among, again, strict=True):
        for name, array in one.items():
            assert torch.equal(array, other[name])


def test_seeds_make_environments_differ_and_streams_go_on():
    env = dtmarl.vector_env(short("paper-v0"), num_envs=3)
    first, _ = env.reset(seed=0)
    assert not np.array_equal(first["mu"][0], first["mu"][1])
    second, _ = env.reset()
    assert not np.array_equal(first["mu"], second["mu"])
    again, _ = env.reset(seed=[0, 1, 2])
    np.testing.assert_array_equal(first["mu"], again["mu"])


def test_observations_share_no_memory_and_lie_in_their_spaces():
    env = dtmarl.vector_env(short("vehicular-v0"), num_envs=3)
    before, _ = env.reset(seed=0)
    kept = {kind: array.copy() for kind, array in before.items()}
    after, *_ = env.step(env.sample_actions(0))
    for kind, array in after.items():
        assert array.dtype == np.float32
        assert not np.shares_memory(before[kind], array)
        array += 1.0
        np.testing.assert_array_equal(before[kind], kept[kind])
        space = env.single_observation_space[kind]
        assert all(space.contains(row) for rows in kept[kind] for row in rows)
    again, *_ = env.step(env.sample_actions(1))
    assert all(env.single_observation_space["bs"].contains(r) for rows in again["bs"] for r in rows)
    assert env.state().shape == (3, env.layouts.state.size)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda a: {"bs": a["bs"]}, "expected a mapping with 'bs' and 'mu', got \\['bs'\\]"),
        (lambda a: {**a, "x": 1}, "expected a mapping"),
        (lambda a: a["bs"], "expected a mapping with 'bs' and 'mu', got ndarray"),
        (lambda a: {**a, "mu": a["mu"][:1]}, "expected floats with shape \\(2, 10, 4\\)"),
        (lambda a: {**a, "mu": a["mu"].astype(int)}, "got int64"),
        (lambda a: {**a, "mu": a["mu"].tolist()}, "expected an array of backend 'numpy', got list"),
        (lambda a: {**a, "bs": torch.from_numpy(a["bs"])}, "backend 'numpy', got Tensor"),
        (lambda a: {**a, "bs": np.where(a["bs"] == a["bs"][1, 2, 3], np.nan, a["bs"])},
         "finite weights, got nan at \\(1, 2, 3\\)"),
    ],
)  # fmt: skip
def test_wrong_actions_are_refused_and_nothing_is_lost(fault, message):
    env, same = (dtmarl.vector_env(short("paper-v0"), num_envs=2) for _ in range(2))
    env.reset(seed=1)
    same.reset(seed=1)
    actions = env.sample_actions(0)
    with pytest.raises(ValueError, match=message):
        env.step(fault(actions))
    ours, theirs = env.step(actions), same.step(actions)
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(ours[0]["mu"], theirs[0]["mu"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_envs": 0}, "num_envs: expected a whole number of at least 1, got 0"),
        ({"num_envs": True}, "num_envs"),
        ({"backend": "jax"}, "backend: expected one of"),
        ({"dtype": "float16"}, "dtype: expected 'float32' or 'float64'"),
        ({"noise": "counter"}, "noise: expected 'pcg64'"),
        ({"compile": True}, "device, compile, dtype: expected"),
        ({"device": "cuda"}, "device, compile, dtype: expected"),
        ({"controller": "nobody"}, "controller: expected one of"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        dtmarl.vector_env("paper-v0", **{"num_envs": 2, **wrong})


@pytest.mark.parametrize(
    "seed",
    [-1, 1.5, "7", [1], [1, -2], True, [1, "2"], [1.5, 2], [True, 2], {1, 2}, [float("inf"), 1]],
)
def test_wrong_seeds_are_refused(seed):
    env = dtmarl.vector_env("paper-v0", num_envs=2)
    with pytest.raises(ValueError, match="seed: expected None"):
        env.reset(seed=seed)


def test_calls_out_of_order_are_refused():
    env = dtmarl.vector_env("paper-v0", num_envs=2)
    with pytest.raises(RuntimeError, match=r"expected reset\(\) first"):
        env.step(env.sample_actions(0))


def test_callers_may_write_to_the_masks():
    ours, theirs = (dtmarl.vector_env("vehicular-v0", num_envs=3) for _ in range(2))
    infos, _ = ours.reset(seed=55)[1], theirs.reset(seed=55)
    for slot in range(12):
        for name in {"mu_mask", "mu_acted"} & infos.keys():
            infos[name][...] = ~infos[name]
        actions = ours.sample_actions(seed=slot)
        expected, *_ = theirs.step(actions)
        seen, *_, infos = ours.step(actions)
        assert np.array_equal(seen["mu"], expected["mu"])


def test_an_observation_can_be_differentiated_after_the_next_step():
    env = dtmarl.vector_env("paper-v0", num_envs=2, backend="torch")
    obs, _ = env.reset(seed=1)
    weight = torch.ones((), requires_grad=True)
    loss = sum((weight * rows).square().sum() for rows in obs.values())
    actions = {kind: array.requires_grad_() for kind, array in env.sample_actions(0).items()}
    seen, *_ = env.step(actions)
    loss.backward()
    assert weight.grad > 0.0
    assert not seen["mu"].requires_grad


def test_a_controller_that_fails_is_asked_again():
    class Failing(type(dtmarl.SCHEMES["proposed"])):
        def decide(self, config, view):
            if view.slot == 10 and failures.pop(0):
                raise ValueError("not now")
            return super().decide(config, view)

    failures = [True, True, False]
    ours = dtmarl.vector_env("paper-v0", num_envs=2, controller=Failing())
    theirs = dtmarl.vector_env("paper-v0", num_envs=2)
    ours.reset(seed=3), theirs.reset(seed=3)
    actions = ours.sample_actions(seed=0)
    for _ in range(9):
        ours.step(actions), theirs.step(actions)
    theirs.step(actions)
    for _ in range(2):
        with pytest.raises(ValueError, match="not now"):
            ours.step(actions)
        assert ours.snapshot.slot == 10
    seen, expected = ours.step(actions), theirs.step(actions)
    assert np.array_equal(seen[0]["mu"], expected[0]["mu"])


@pytest.mark.slow  # each takes long
@pytest.mark.parametrize(
    ("scenario", "options", "fidelity"),
    [
        *((scenario, {}, {}) for scenario in dtmarl.scenarios()),
        # Reports that repeat themselves after three frames and arrive later than the next.
        (
            "paper-v0",
            {"controller": "single-timescale", "noise": "pcg64"},
            {"sync_period_slots": 3, "sync_delay_slots": 3},
        ),
    ],
)
def test_compiled_is_eager_within_rounding(scenario, options, fidelity):
    # Frames of few slots, as graphs are as long as a frame; more of them than torch lets a graph
    # be made anew.
    config = short(scenario, frames=12).replace(slots_per_frame=2, twin=fidelity)
    common = {"num_envs": 4, "backend": "torch", **options}
    eager = dtmarl.vector_env(config, **common)
    compiled = dtmarl.vector_env(config, compile=True, **common)
    eager.reset(seed=5)
    compiled.reset(seed=4)
    compiled.reset(seed=5)
    for slot in range(config.slots_per_episode + 2):
        actions = eager.sample_actions(seed=slot)
        expected, rewards, *_ = eager.step(actions)
        seen, got, *_ = compiled.step(actions)
        torch.testing.assert_close(got, rewards, rtol=1e-4, atol=1e-5)
        for kind in ("bs", "mu"):
            torch.testing.assert_close(seen[kind], expected[kind], rtol=1e-3, atol=1e-3)
