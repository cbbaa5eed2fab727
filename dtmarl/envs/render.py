"""Rendering: a map of the network as an image or in a window; matplotlib (extra ``plot``) draws it.

Only what `SlotEnv` shows publicly is read, and nothing is kept on the environment: windows hang on
it by a weak reference, so that an environment that has been drawn still copies and pickles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from gymnasium import logger

from dtmarl.backend import Array

if TYPE_CHECKING:
    from dtmarl.envs.slot import SlotEnv

_SIZE_INCHES = (9.0, 6.0)
_DPI = 100
_MAP_BOX = (0.065, 0.08, 0.665, 0.79)  # left, bottom, width, height, as parts of the figure
_BAR_BOX = (0.765, 0.08, 0.018, 0.40)
_LEGEND_AT = (0.752, 0.885)
_DELAY_SPAN = 8.0  # colours reach from the reference delay over this to the reference times this
_MARKER = {False: "o", True: "s"}  # by whether the user is a vehicle
_MOVING_DASHES = (0, (3, 2))
_RETRAIN_COLOR = "#7b2cbf"
_ALARM_COLOR = "#d00000"
_UNKNOWN_COLOR = (0.78, 0.78, 0.78, 1.0)
_CROWD = 20  # with so many users markers shrink

_windows: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def draw(env: SlotEnv) -> Array | None:
    """Draw an environment as its `render_mode` says.

    Args:
        env: after `reset`; its state stays as it is.

    Returns:
        [H, W, 3] uint8 for ``"rgb_array"``; None for ``"human"``, which shows a window, and for no
        render mode, which warns as Gymnasium's environments do.

    Raises:
        RuntimeError: before `reset`.
        ImportError: matplotlib is not installed.
    """
    if env.render_mode is None:
        logger.warn("render() does nothing: the environment was made without a render_mode")
        return None
    if env.render_mode == "rgb_array":
        return _image(env)
    _show(env)
    return None


def close(env: SlotEnv) -> None:
    """Close the environment's window, if it has one."""
    window = _windows.pop(env, None)
    if window is not None:
        from matplotlib import pyplot

        pyplot.close(window)


def _image(env: SlotEnv) -> Array:
    _require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot's: no global state, no display, nothing to close.
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    paint(figure, env)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def _show(env: SlotEnv) -> None:
    _require_matplotlib()
    from matplotlib import pyplot

    window = _windows.get(env)
    if window is None or not pyplot.fignum_exists(window.number):
        window = pyplot.figure(figsize=_SIZE_INCHES, dpi=_DPI)
        window.show()
        _windows[env] = window
    window.clear()
    paint(window, env)
    window.canvas.draw_idle()
    window.canvas.start_event_loop(0.001)  # pyplot.pause would also take the keyboard's focus


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "rendering needs matplotlib; install it with: pip install 'dtmarl[plot]'"
        ) from error


def paint(figure: Any, env: SlotEnv) -> None:
    """Draw everything that is seen onto an empty matplotlib figure.

    Args:
        figure: a ``matplotlib.figure.Figure``; its first axes become the map.
        env: after `reset`; its state stays as it is.

    Raises:
        RuntimeError: before `reset`.
    """
    axes = figure.add_axes(_MAP_BOX)
    _paint_area(axes, env)
    _paint_links(axes, env)
    _paint_sites(axes, env)
    _paint_users(axes, env)
    _paint_delay_bar(figure, env)
    _paint_legend(figure)
    figure.text(_MAP_BOX[0], 0.975, _headline(env), fontsize=12, weight="bold", va="top")
    figure.text(_MAP_BOX[0], 0.93, _newest_slot(env), fontsize=9, va="top")


def _now(env: SlotEnv, path: Array) -> Array:
    """The part [M or N, …] of a frame's path [S, E, …] that belongs to the present slot."""
    return path[env.snapshot.slot % env.config.slots_per_frame, 0]


def _paint_area(axes: Any, env: SlotEnv) -> None:
    """The area with its cells, a light colour for the context that each brings."""
    from matplotlib import colormaps

    width, height = env.config.mobility.width_m, env.config.mobility.height_m
    side = env.config.learning.cells_per_side
    context = np.reshape(env.snapshot.scene.place_context[0], (side, side))
    axes.imshow(
        colormaps["tab20"](context % 20),
        extent=(0.0, width, 0.0, height),
        origin="lower",
        interpolation="nearest",
        alpha=0.15,
        zorder=0,
    )
    axes.set(xlim=(0.0, width), ylim=(0.0, height), aspect="equal", anchor="NW")
    axes.set_xlabel("x (m)", fontsize=8)
    axes.set_ylabel("y (m)", fontsize=8)
    axes.tick_params(labelsize=8)


def _paint_links(axes: Any, env: SlotEnv) -> None:
    """A line for each association; dashed while model and twin still have to move over it."""
    state = env.snapshot
    sites, users = state.scene.site_position_m[0], _now(env, state.frame.position_m)
    for m, n in np.argwhere(state.control.association_mask[0]):
        moving = state.control.new_link_mask[0, m, n]
        axes.plot(
            (sites[m, 0], users[n, 0]),
            (sites[m, 1], users[n, 1]),
            color=_site_color(m),
            linestyle=_MOVING_DASHES if moving else "solid",
            linewidth=1.1,
            alpha=0.75,
            zorder=1,
        )


def _paint_sites(axes: Any, env: SlotEnv) -> None:
    """Base stations; one that is down is grey and crossed out."""
    state = env.snapshot
    working_mask = _now(env, state.frame.free_flop_per_s) > 0.0
    low_m = 0.1 * env.config.mobility.height_m
    for m, place in enumerate(state.scene.site_position_m[0]):
        working = bool(working_mask[m])
        color = _site_color(m) if working else _UNKNOWN_COLOR
        axes.scatter(*place, marker="^", s=210, color=color, edgecolors="black", zorder=2)
        if not working:
            axes.scatter(*place, marker="x", s=330, color=_ALARM_COLOR, linewidths=3, zorder=2.1)
        axes.annotate(
            f"bs_{m}", place, (0, 11 if place[1] < low_m else -17), textcoords="offset points",
            ha="center", fontsize=8, weight="bold", zorder=2.2,
        )  # fmt: skip


def _paint_users(axes: Any, env: SlotEnv) -> None:
    """Present users: shape by kind, colour by delay, ring for retraining, edge for break-out."""
    state, outcome = env.snapshot, env.outcome
    present = state.frame.present_mask[0]
    position = _now(env, state.frame.position_m)
    crowded = env.config.max_users >= _CROWD
    size = 75.0 if crowded else 130.0
    # Who has just arrived has no delay yet, and after a reset nobody has.
    served, broken, delay = np.zeros_like(present), np.zeros_like(present), np.zeros(present.shape)
    if outcome is not None:
        served = present & outcome.present_mask[0]
        broken = served & outcome.breakout_mask[0]
        delay = outcome.delay_s[0] + outcome.retrain_delay_s[0]
    color = _delay_colors(env).to_rgba(delay)
    color[~served] = _UNKNOWN_COLOR
    retraining = position[present & state.control.retrain_mask[0]]
    axes.scatter(
        retraining[:, 0], retraining[:, 1], s=2.6 * size, facecolors="none",
        edgecolors=_RETRAIN_COLOR, linewidths=1.6, zorder=3, clip_on=False,
    )  # fmt: skip
    for n in np.flatnonzero(present):
        x, y = position[n]
        axes.scatter(
            x, y, s=size, marker=_MARKER[bool(state.scene.vehicle_mask[0, n])], color=color[n],
            edgecolors=_ALARM_COLOR if broken[n] else "black",
            linewidths=2.0 if broken[n] else 0.7, zorder=4 + n, clip_on=False,
        )  # fmt: skip
        dark = float(np.dot(color[n][:3], (0.299, 0.587, 0.114))) < 0.5
        axes.text(
            x, y, str(n), ha="center", va="center_baseline", fontsize=5 if crowded else 7,
            color="white" if dark else "black", zorder=4.1 + n,
        )  # fmt: skip


def _paint_delay_bar(figure: Any, env: SlotEnv) -> None:
    bar = figure.colorbar(_delay_colors(env), cax=figure.add_axes(_BAR_BOX), extend="both")
    ticks = env.config.reference_delay_s * _DELAY_SPAN ** np.linspace(-1.0, 1.0, 7)
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks], fontsize=8)
    bar.minorticks_off()
    bar.set_label("delay in the newest slot (s)", fontsize=8)


def _delay_colors(env: SlotEnv) -> Any:
    """Colours of delays, the same over an episode so that images can be compared."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    reference = env.config.reference_delay_s
    return ScalarMappable(LogNorm(reference / _DELAY_SPAN, reference * _DELAY_SPAN), "viridis")


def _paint_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    def mark(label: str, marker: str, **special: Any) -> Any:
        style: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 8}
        return Line2D([], [], marker=marker, linestyle="none", label=label, **(style | special))

    figure.legend(
        handles=[
            mark("base station", "^", color="dimgrey", markersize=11),
            mark("base station down", "x", markeredgecolor=_ALARM_COLOR, markeredgewidth=3),
            mark("pedestrian", _MARKER[False]),
            mark("vehicle", _MARKER[True]),
            mark("no delay yet", _MARKER[False], color=_UNKNOWN_COLOR),
            mark("retraining", "o", markeredgecolor=_RETRAIN_COLOR, markersize=13),
            mark("break-out", "o", markeredgecolor=_ALARM_COLOR, markeredgewidth=2),
            Line2D([], [], color="dimgrey", label="association"),
            Line2D([], [], color="dimgrey", linestyle=_MOVING_DASHES, label="model moving"),
            mark("cells: one colour, one context", "s", color="#dcd6ee", markeredgecolor="none"),
        ],
        loc="upper left",
        bbox_to_anchor=_LEGEND_AT,
        fontsize=8,
        frameon=False,
        labelspacing=0.75,
    )


def _headline(env: SlotEnv) -> str:
    config, slot = env.config, env.snapshot.slot
    # After the last slot the clock stands past the last frame.
    frame = min(slot // config.slots_per_frame + 1, config.frames_per_episode)
    return (
        f"{config.id}   slot {slot} of {config.slots_per_episode}"
        f"   frame {frame} of {config.frames_per_episode}"
    )


def _newest_slot(env: SlotEnv) -> str:
    outcome = env.outcome
    if outcome is None:
        return "no slot has been played yet"
    present = outcome.present_mask[0]
    users = int(present.sum())
    if not users:
        return "newest slot: no users"
    return (
        f"newest slot: system delay {outcome.system_delay_s[0]:.1f} s, "
        f"mean accuracy {outcome.accuracy[0][present].mean():.3f}; of {users} users "
        f"{int(outcome.breakout_mask[0].sum())} broke out and "
        f"{int(outcome.retrain_mask[0].sum())} retrained"
    )


def _site_color(m: int) -> Any:
    from matplotlib import colormaps

    return colormaps["Dark2"](m % 8)
