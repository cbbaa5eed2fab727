"""One type of agents as a Gymnasium vector environment: the vector environment, row by row."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import vector as wrappers
from playing import short

import dtmarl
from dtmarl.backend import to_numpy

CONFIG = short("vehicular-v0", frames=3)
"""Users come and go, so that some rows are of nobody."""

E, M, N = 3, CONFIG.num_base_stations, CONFIG.max_users
ROWS = {"bs": E * M, "mu": E * N}
OTHER = {"bs": "mu", "mu": "bs"}
USER_FIGURES = ("delay_s", "accuracy", "breakout")
TORCH = {"backend": "torch", "dtype": "float64", "noise": "pcg64"}


def made(agents, **options):
    return dtmarl.gymnasium_vector_env(CONFIG, agents=agents, num_envs=E, **options)


def drawn(env, slot):
    return np.random.default_rng(slot).random(env.action_space.shape, dtype=np.float32)


def ready(agents, seed=0, **options):
    env = made(agents, **options)
    env.reset(seed=seed)
    return env


def flat(array):
    array = to_numpy(array)
    return array.reshape(-1, *array.shape[2:])


def assert_masks(infos):
    """Every info has a value and a mask for each row."""
    for name in [name for name in infos if not name.startswith("_")]:
        assert infos[f"_{name}"].dtype == np.bool_
        assert len(infos[f"_{name}"])
        if isinstance(infos[name], dict):
            assert_masks(infos[name])
        else:
            assert infos[name].shape == infos[f"_{name}"].shape


@pytest.mark.parametrize("options", [{}, TORCH], ids=["numpy", "torch"])
@pytest.mark.parametrize("rule", ["root-balanced", "random"])
@pytest.mark.parametrize("agents", ["bs", "mu"])
def test_rows_are_the_vector_environment_played_by_hand(agents, rule, options):
    """Bit for bit, over two episodes; what a rule draws follows from the seed."""
    env = made(agents, others=rule, **options)
    by_hand = dtmarl.vector_env(CONFIG, num_envs=E, **options)
    others = dtmarl.POLICIES[rule]()
    decide = others.split if agents == "bs" else others.allocate
    each = ROWS[agents] // E

    seen, infos = env.reset(seed=7)
    expected, told = by_hand.reset(seed=7)
    others.reset(CONFIG, 7)
    absent = 0
    for slot in range(2 * CONFIG.slots_per_episode):
        np.testing.assert_array_equal(seen, flat(expected[agents]))
        mask = flat(told["mu_mask"]) if agents == "mu" else np.ones(E * M, dtype=bool)
        np.testing.assert_array_equal(infos["mask"], mask)
        assert not seen[~mask].any()
        actions = drawn(env, slot)
        weights = {agents: actions, OTHER[agents]: decide(flat(expected[OTHER[agents]]))}
        weights = {k: w.reshape(by_hand.action_shapes[k]) for k, w in weights.items()}
        if options:
            weights = {kind: torch.from_numpy(array) for kind, array in weights.items()}
        expected, shared, _, truncated, told = by_hand.step(weights)
        seen, rewards, terminations, truncations, infos = env.step(actions)

        acted = mask  # who was there
        shared = np.repeat(to_numpy(shared), each)
        np.testing.assert_array_equal(infos["acted"], acted)
        np.testing.assert_array_equal(rewards, np.where(acted, shared, 0.0))
        np.testing.assert_array_equal(truncations, np.repeat(to_numpy(truncated), each))
        assert not terminations.any()
        delay = np.repeat(to_numpy(told["system_delay_s"]), each)
        np.testing.assert_array_equal(infos["system_delay_s"], delay)
        for name in USER_FIGURES if agents == "mu" else ():
            np.testing.assert_array_equal(infos[name], flat(told[name]))
            np.testing.assert_array_equal(infos[f"_{name}"], acted)
        assert ("final_obs" in infos) == ("final_obs" in told) == truncations.all()
        if "final_obs" in told:
            last = np.stack(list(infos["final_obs"]))
            np.testing.assert_array_equal(last, flat(told["final_obs"][agents]))
        absent += (~acted).sum()
    assert (absent > 0) == (agents == "mu")


def test_an_environment_is_the_single_one_that_the_rule_plays():
    """The reward is that of `parallel_env`, where the rule plays single precision as well."""
    env, alone = made("mu"), dtmarl.parallel_env(CONFIG)
    rule = dtmarl.POLICIES["root-balanced"]()
    rule.reset(CONFIG, 0)
    observations, _ = alone.reset(seed=5)
    env.reset(seed=[4, 5, 6])
    for slot in range(CONFIG.slots_per_episode):
        weights = drawn(env, slot)
        actions = rule.act({agent: observations[agent] for agent in alone.agents})
        actions |= {a: weights[N + int(a[3:])] for a in alone.agents if a.startswith("mu_")}
        observations, rewards, *_ = alone.step(actions)
        _, by_row, *_ = env.step(weights)
        users = {agent: reward for agent, reward in rewards.items() if agent.startswith("mu_")}
        for agent, reward in users.items():
            assert by_row[N + int(agent[3:])] == pytest.approx(reward, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"backend": "torch"}], ids=["numpy", "torch"])
@pytest.mark.parametrize("agents", ["bs", "mu"])
def test_it_has_what_gymnasium_asks_of_a_vector_environment(agents, options):
    env = made(agents, **options)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    rows = env.num_envs
    assert rows == ROWS[agents]
    assert env.observation_space.shape == (rows, *env.single_observation_space.shape)
    assert env.action_space.shape == (rows, *env.single_action_space.shape)
    assert env.single_action_space.shape == ((N,) if agents == "bs" else (1 + M,))

    env.action_space.seed(0)
    seen, infos = env.reset(seed=1, options={})
    assert_masks(infos)
    for _ in range(CONFIG.slots_per_episode):
        assert type(seen) is np.ndarray
        assert env.observation_space.contains(seen)
        seen, rewards, terminations, truncations, infos = env.step(env.action_space.sample())
        for array, dtype in ((rewards, float), (terminations, bool), (truncations, bool)):
            assert type(array) is np.ndarray
            assert array.shape == (rows,)
            assert array.dtype == dtype
        assert (rewards[infos["acted"]] < 0.0).all()
        assert not rewards[~infos["acted"]].any()
        assert_masks(infos)
    assert truncations.all()
    env.close()
    assert env.closed


def test_the_time_limit_leaves_the_last_observations_and_infos():
    env = ready("mu")
    for slot in range(CONFIG.slots_per_episode):
        seen, _, _, truncations, infos = env.step(drawn(env, slot))
    assert truncations.all()
    assert infos["final_obs"].dtype == object
    assert infos["_final_obs"].all()
    assert infos["_final_info"].all()
    for row, last in enumerate(infos["final_obs"]):
        assert env.single_observation_space.contains(last)
        assert last.any() == infos["final_info"]["mask"][row]
        assert seen[row].any() == infos["mask"][row]
    assert not np.array_equal(infos["mask"], infos["final_info"]["mask"])
    np.testing.assert_array_equal(infos["final_info"]["mask"], infos["acted"])
    np.testing.assert_array_equal(infos["final_info"]["delay_s"], infos["delay_s"])
    _, _, _, truncations, infos = env.step(drawn(env, 0))
    assert not truncations.any()
    assert "final_obs" not in infos


def test_what_absent_users_do_does_not_matter():
    env, same = ready("mu"), ready("mu")
    _, infos = env.reset(seed=3)
    same.reset(seed=3)
    for slot in range(CONFIG.slots_per_episode):
        actions = drawn(env, slot)
        spoilt = np.where(infos["mask"][:, None], actions, 1.0 - actions)
        _, rewards, *_ = same.step(spoilt)
        _, expected, *_, infos = env.step(actions)
        np.testing.assert_array_equal(rewards, expected)


@pytest.mark.parametrize("agents", ["bs", "mu"])
def test_a_callable_is_a_rule_too(agents):
    rule = dtmarl.POLICIES["equal-balanced"]()
    rule.reset(CONFIG, 0)
    decide = rule.split if agents == "bs" else rule.allocate
    widths = []

    def by_row(rows):
        assert rows.dtype == np.float32
        widths.append(rows.shape)
        return decide(rows)

    ours = ready(agents, others=by_row)
    theirs = ready(agents, others=dtmarl.POLICIES["equal-balanced"]())
    size = ours.environments.single_observation_space[OTHER[agents]].shape
    for slot in range(3):
        actions = drawn(ours, slot)
        for one, other in zip(ours.step(actions)[:2], theirs.step(actions)[:2], strict=True):
            np.testing.assert_array_equal(one, other)
    assert widths == 3 * [(ROWS[OTHER[agents]], *size)]


def test_what_callers_write_to_stays_with_them():
    env, same = ready("mu"), ready("mu")
    for slot in range(5):
        *arrays, infos = env.step(drawn(env, slot))
        *expected, told = same.step(drawn(env, slot))
        for one, other in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            one[...] = 1
        np.testing.assert_array_equal(infos["mask"], told["mask"])
        for array in infos.values():
            array[...] = 0


@pytest.mark.parametrize("seed", [5, [5, 6, 7], np.int64(5), np.array([5, 6, 7])])
def test_seeds_repeat_an_episode_and_none_goes_on(seed):
    env = made("bs", others="random")
    first, _ = env.reset(seed=5)
    after = env.step(drawn(env, 0))
    on, _ = env.reset()
    assert not np.array_equal(first, on)
    again, _ = env.reset(seed=seed)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(after[1], env.step(drawn(env, 0))[1])
    assert env.np_random_seed == 5


def test_without_a_seed_episodes_differ():
    first, second = (made("mu", others="random").reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("agents", ["bs", "mu"])
def test_the_next_step_resets_if_it_shall(agents):
    """The same episodes, with a step between them in which nobody acts."""
    env = made(agents, autoreset_mode="NextStep")
    same = made(agents)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    seen, _ = env.reset(seed=2)
    expected, _ = same.reset(seed=2)
    for slot in range(2 * CONFIG.slots_per_episode):
        np.testing.assert_array_equal(seen, expected)
        seen, rewards, _, truncations, infos = env.step(drawn(env, slot))
        expected, shared, _, over, told = same.step(drawn(env, slot))
        np.testing.assert_array_equal(rewards, shared)
        np.testing.assert_array_equal(truncations, over)
        if over.all():
            np.testing.assert_array_equal(seen, np.stack(list(told["final_obs"])))
            assert infos.keys() == told["final_info"].keys()
            for name, array in infos.items():
                np.testing.assert_array_equal(array, told["final_info"][name])
            seen, rewards, terminations, truncations, infos = env.step(drawn(env, slot))
            assert not rewards.any()
            assert not (terminations | truncations | infos["acted"]).any()
        np.testing.assert_array_equal(infos["mask"], told["mask"])
        assert_masks(infos)


def test_a_reset_comes_before_that_of_the_next_step():
    env, same = (made("mu", autoreset_mode="NextStep") for _ in range(2))
    env.reset(seed=0)
    for slot in range(CONFIG.slots_per_episode):
        env.step(drawn(env, slot))
    first, _ = env.reset(seed=4)
    expected, _ = same.reset(seed=4)
    np.testing.assert_array_equal(first, expected)
    for one, other in zip(env.step(drawn(env, 0))[:2], same.step(drawn(env, 0))[:2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("agents", ["bs", "mu"])
def test_gymnasium_wrappers_work_on_it(agents):
    """The wrappers of observations, and statistics beyond an episode, want the next step to reset.

    In the same step Gymnasium 1.2 refuses the former, and loses a reward in the latter.
    """
    plain, env = (ready(agents, autoreset_mode="NextStep") for _ in range(2))
    env = wrappers.ReshapeObservation(env, (1, *env.single_observation_space.shape))
    env = wrappers.RecordEpisodeStatistics(wrappers.NormalizeObservation(env))
    env.reset(seed=0)
    total, ends = 0.0, 0
    for slot in range(2 * CONFIG.slots_per_episode + 1):
        seen, rewards, _, truncations, infos = env.step(drawn(plain, slot))
        _, expected, _, over, _ = plain.step(drawn(plain, slot))
        assert seen.shape == (env.num_envs, 1, *plain.single_observation_space.shape)
        np.testing.assert_array_equal(rewards, expected)
        np.testing.assert_array_equal(truncations, over)
        total += rewards
        if over.all():
            np.testing.assert_allclose(infos["episode"]["r"], total)
            assert (infos["episode"]["l"] == CONFIG.slots_per_episode).all()
            total, ends = 0.0, ends + 1
    assert ends == 2


@pytest.mark.parametrize("agents", ["bs", "mu"])
def test_gymnasium_wrappers_of_the_rest_work_if_the_same_step_resets(agents):
    plain, env = ready(agents), made(agents)
    env = wrappers.RescaleAction(env, -np.float32(1.0), np.float32(1.0))
    env = wrappers.RecordEpisodeStatistics(wrappers.ClipReward(env, max_reward=-0.1))
    env = wrappers.DictInfoToList(env)
    env.reset(seed=0)
    total = np.zeros(env.num_envs)
    for slot in range(CONFIG.slots_per_episode):
        actions = drawn(plain, slot).round(1)
        seen, rewards, _, truncations, infos = env.step(2.0 * actions - 1.0)
        expected, shared, _, _, told = plain.step(actions)
        np.testing.assert_allclose(seen, expected, atol=1e-4)
        np.testing.assert_allclose(rewards, np.minimum(shared, -0.1), rtol=1e-4)
        total += rewards
        for row in range(env.num_envs):
            assert infos[row]["acted"] == told["acted"][row]
            assert ("delay_s" in infos[row]) == (agents == "mu" and told["acted"][row])
    assert truncations.all()
    for row, info in enumerate(infos):
        np.testing.assert_allclose(info["final_obs"], told["final_obs"][row], atol=1e-4)
        assert info["final_info"]["mask"] == told["final_info"]["mask"][row]
        assert info["episode"]["r"] == pytest.approx(total[row])
        assert info["episode"]["l"] == CONFIG.slots_per_episode


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"agents": "ue"}, "agents: expected 'bs' or 'mu', got 'ue'"),
        ({"agents": None}, "agents: expected 'bs' or 'mu', got None"),
        ({"agents": ["mu"]}, r"agents: expected 'bs' or 'mu', got \['mu'\]"),
        ({"others": "nobody"}, "others: policy: expected one of .* got 'nobody'"),
        ({"others": "twin-optimum"}, "others: expected the name of a rule .* got 'twin-optimum'"),
        ({"others": "oracle"}, "others: expected the name of a rule"),
        ({"others": dtmarl.POLICIES["twin-optimum"]()}, "others: expected .*TwinOptimum"),
        ({"others": type(dtmarl.POLICIES["random"]())}, "others: expected .*RandomWeights"),
        ({"others": None}, "others: expected .* got None"),
        ({"autoreset_mode": "Disabled"}, "autoreset_mode: expected 'SameStep' or 'NextStep', got"),
        ({"autoreset_mode": None}, "autoreset_mode: expected 'SameStep' or 'NextStep', got None"),
        ({"num_envs": 0}, "num_envs: expected a whole number of at least 1, got 0"),
        ({"backend": "jax"}, "backend: expected one of"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dtmarl.gymnasium_vector_env(CONFIG, **{"agents": "mu", "num_envs": E, **wrong})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda a: a.tolist(), "expected a NumPy array, got list"),
        (torch.from_numpy, "expected a NumPy array, got Tensor"),
        (lambda a: {"mu": a}, "expected a NumPy array, got dict"),
        (lambda a: a[1:], r"expected floats with shape \(39, 4\), got float32 .* \(38, 4\)"),
        (lambda a: a.reshape(E, N, -1), r"expected floats with shape \(39, 4\)"),
        (lambda a: a.astype(int), r"expected floats with shape \(39, 4\), got int64"),
        (
            lambda a: np.where(a == a[5, 2], np.nan, a),
            r"expected finite weights, got nan at \(5, 2\)",
        ),
    ],
)
@pytest.mark.parametrize("options", [{}, {"backend": "torch"}], ids=["numpy", "torch"])
def test_wrong_actions_are_refused_and_nothing_is_lost(fault, message, options):
    env, same = ready("mu", **options), ready("mu", **options)
    actions = drawn(env, 0)
    with pytest.raises(ValueError, match=f"^actions: {message}"):
        env.step(fault(actions))
    for one, other in zip(env.step(actions)[:2], same.step(actions)[:2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (lambda rows: rows, r"expected floats with shape \(9, 13\), got float32 with shape"),
        (lambda rows: torch.ones(len(rows), N), "expected a NumPy array, got Tensor"),
        (lambda rows: np.full((len(rows), N), np.inf), r"finite weights, got inf at \(0, 0\)"),
    ],
)
def test_wrong_weights_of_the_others_are_told_from_wrong_actions(others, message):
    env = ready("mu", others=others)
    with pytest.raises(ValueError, match=f"^others: .*{message}"):
        env.step(drawn(env, 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed: expected None"),
        ({"seed": [1, 2]}, "seed: expected None, a non-negative integer or 3 of them"),
        ({"options": [1]}, r"options: expected None or a mapping, got \[1\]"),
        ({"options": {"reset_mask": np.ones(E * N, dtype=bool)}}, "options: expected no 'reset"),
    ],
)
def test_wrong_resets_are_refused_and_nothing_is_lost(wrong, message):
    env, same = ready("mu"), ready("mu")
    with pytest.raises(ValueError, match=f"^{message}"):
        env.reset(**wrong)
    actions = drawn(env, 0)
    np.testing.assert_array_equal(env.step(actions)[0], same.step(actions)[0])


def test_calls_out_of_order_are_refused():
    env = made("mu")
    with pytest.raises(RuntimeError, match=r"expected reset\(\) first"):
        env.step(drawn(env, 0))
