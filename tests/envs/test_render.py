"""Rendering draws what is there and leaves the episode alone."""

import copy
import gc
import pickle
import sys
import weakref

import numpy as np
import pytest
from playing import assert_same, episode, equal_weights, play, short

import dtmarl
from dtmarl.envs import render

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def make(mode="rgb_array", scenario="paper-v0"):
    return dtmarl.parallel_env(short(scenario), render_mode=mode)


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_an_image_of_each_scenario(scenario):
    env = dtmarl.parallel_env(scenario, render_mode="rgb_array")
    env.reset(seed=1)
    image = env.render()
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.writeable
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_images_show_the_newest_slot_and_repeat():
    images = []
    for _ in range(2):
        env = make()
        env.reset(seed=1)
        images.append(env.render())
        env.step(equal_weights(env))
        images.append(env.render())
    assert np.array_equal(images[0], images[2])
    assert np.array_equal(images[1], images[3])
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_rendering_does_not_change_the_trajectory(mode):
    plain = episode(make(None), seed=2)
    env = make(mode)
    found = []
    for slot in play(env, seed=2):
        env.render()
        found.append(slot)
    env.close()
    assert_same(plain, found)


def test_images_use_nothing_global():
    from matplotlib import pyplot

    pyplot.close("all")
    parameters = dict(matplotlib.rcParams)
    env = make()
    env.reset(seed=1)
    env.render()
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == parameters


def test_a_window_opens_once_and_closes():
    from matplotlib import pyplot

    pyplot.close("all")
    env, other = make("human"), make("human")
    for one in (env, other):
        one.reset(seed=1)
    assert env.render() is None
    assert len(pyplot.get_fignums()) == 1
    env.step(equal_weights(env))
    env.render()
    assert len(pyplot.get_fignums()) == 1
    other.render()
    assert len(pyplot.get_fignums()) == 2
    env.close()
    env.close()
    assert len(pyplot.get_fignums()) == 1
    other.close()
    assert pyplot.get_fignums() == []
    env.render()
    assert len(pyplot.get_fignums()) == 1
    env.close()


def test_a_window_that_was_closed_by_hand_opens_again():
    from matplotlib import pyplot

    env = make("human")
    env.reset(seed=1)
    env.render()
    pyplot.close("all")
    env.render()
    assert len(pyplot.get_fignums()) == 1
    env.close()


def test_an_environment_with_a_window_copies_pickles_and_is_forgotten():
    env = make("human")
    env.reset(seed=1)
    env.render()
    actions = equal_weights(env)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    rewards = [one.step(actions)[1] for one in (env, *twins)]
    assert rewards[0] == rewards[1] == rewards[2]
    env.close()
    reference = weakref.ref(env.unwrapped)
    del env
    gc.collect()
    assert reference() is None


def test_without_a_render_mode_nothing_is_drawn_and_a_warning_says_so():
    env = make(None)
    env.reset(seed=1)
    with pytest.warns(UserWarning, match="made without a render_mode"):
        assert env.render() is None


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_rendering_before_a_reset_is_refused(mode):
    with pytest.raises(RuntimeError, match=r"no episode yet: expected reset\(\) first"):
        make(mode).render()


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, mode):
    env = make(mode)
    env.reset(seed=1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'dtmarl\[plot\]'"):
        env.render()
    env.close()


def drawn(env):
    """The figure before it becomes an image."""
    from matplotlib.figure import Figure

    figure = Figure()
    render.paint(figure, env.unwrapped)
    return figure


def labels(axes):
    return {text.get_text() for text in axes.texts}


def test_the_map_shows_present_users_links_sites_and_the_figures():
    env = make()
    env.reset(seed=1)
    env.step(equal_weights(env))
    figure = drawn(env)
    axes = figure.axes[0]
    users = [agent.removeprefix("mu_") for agent in env.agents if agent.startswith("mu_")]
    assert len(users) < 10
    assert labels(axes) == {*users, "bs_0", "bs_1", "bs_2"}
    association = env.unwrapped.snapshot.control.association_mask
    assert len(axes.lines) == association.sum()
    title = " ".join(text.get_text() for text in figure.texts)
    delay = env.unwrapped.outcome.system_delay_s[0]
    for part in ("paper-v0", "slot 1 of 8", "frame 1 of 2", f"system delay {delay:.1f} s"):
        assert part in title


def test_the_map_crosses_out_a_base_station_that_failed():
    env = make(scenario="outage-v0")

    def crosses():
        return len(drawn(env).axes[0].collections)

    env.reset(seed=1)
    before = crosses() - users_drawn(env)
    start = int(env.unwrapped.snapshot.scene.failure_frame[0])
    while env.unwrapped.snapshot.slot < 4 * start:
        env.step(equal_weights(env))
    assert crosses() - users_drawn(env) == before + 1


def users_drawn(env):
    return sum(agent.startswith("mu_") for agent in env.agents)
