"""PPO on the vector environment in plain torch: one file, to read and to copy.

All base stations share one policy, all users another. Writes to ``--out``: ``policy.safetensors``
with ``policy.json`` (what `Learned` reads), ``result.json``, ``curve.png`` where matplotlib is
installed, and ``checkpoint.safetensors``, from which ``--resume`` continues a run that was stopped.

    python train/ppo_torch.py --out out/ppo

Slots of these environments are nearly independent: what an action does to later slots is little
(what was uploaded, which models have moved), so looking ahead adds more noise than it tells, and
gamma is 0 unless told.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

import dtmarl
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.envs.observation import Observations
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import mean_estimate, ratio_estimate
from dtmarl.policies.rule import Rule
from dtmarl.scenarios import SCENARIOS

# The last solves each slot centrally, which no agent sees enough to do.
RULES = "local-only offload-all fixed-split equal-balanced root-balanced twin-optimum".split()
EPOCHS, MINIBATCHES, HORIZON, LEARNING_RATE = 4, 4, 25, 1e-3
CLIP, GAE_LAMBDA, MAX_GRADIENT_NORM = 0.2, 0.95, 0.5
LARGEST_ADVANTAGE = 3.0  # a slot in an outage costs a hundred usual ones and says little
FIRST_SEED = 1_000_000  # of training, above those of the evaluation
STATE = ("step", "exp_avg", "exp_avg_sq")  # of Adam, for each parameter
FEATURES = {  # blocks of its observation that an agent knows its items by
    "bs": "task rate training free_compute num_associated".split(),
    "mu": "moving rate free_compute num_associated demand task training report_age".split(),
}


class Net(nn.Module):
    """A number for each item that an agent weighs, alike in any order and number of items."""

    def __init__(self, num_features: int, width: int = 64) -> None:
        super().__init__()
        self.first, self.own = nn.Linear(num_features, width), nn.Linear(width, width)
        self.others, self.last = nn.Linear(width, width, bias=False), nn.Linear(width, 1)
        nn.init.orthogonal_(self.last.weight, 0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """From features [R, I, F] and the mask [R, I] of associated items, numbers [R, I]."""
        # Most pairs are not associated: only those that are go through the layers.
        row, item = torch.nonzero(mask, as_tuple=True)
        each = torch.tanh(self.first(features[row, item]))
        count = mask.sum(-1, keepdim=True).clamp_min(1)
        pooled = each.new_zeros(len(mask), each.shape[-1]).index_add(0, row, each) / count
        hidden = torch.tanh(self.own(each) + self.others(pooled).index_select(0, row))
        numbers = each.new_zeros(mask.shape)
        return numbers.index_put((row, item), self.last(hidden)[:, 0])


class Agents(nn.Module):
    """The policy and the critic of one kind of agent: base stations weigh users, users the former.

    An action is a normal vector of log-weights, one per associated item; other items change
    nothing and have no part in the likelihood. A user's weight for itself is 1: only ratios matter.
    """

    def __init__(self, kind: str, config: dtmarl.ScenarioConfig) -> None:
        super().__init__()
        layouts = Observations(config)
        self.kind, self.slices = kind, {"bs": layouts.bs, "mu": layouts.mu}[kind].slices
        self.actor, self.critic = Net(len(FEATURES[kind])), Net(len(FEATURES[kind]))
        self.log_std = nn.Parameter(torch.tensor(-1.0))

    def items(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features [R, I, F] and mask [R, I] of observations [R, size]; ratios call for logs."""
        mask = rows[..., self.slices["associated"]] > 0.5
        blocks = {name: rows[..., self.slices[name]] for name in FEATURES[self.kind]}
        for name in {"task", "free_compute", "num_associated", "demand"} & blocks.keys():
            blocks[name] = torch.log(blocks[name].clamp_min(1e-2))
        blocks["training"] = -torch.log((1.0 - blocks["training"]).clamp_min(1e-3))
        blocks["rate"] = 5.0 * blocks["rate"] - 3.0  # five decades, logarithmic as it is
        return torch.stack([block.expand(mask.shape) for block in blocks.values()], dim=-1), mask

    def weights(self, logs: Tensor, mask: Tensor) -> Tensor:
        """What the environment is told, [R, I] or with the user itself [R, 1 + I], at most 1."""
        logs = logs.clamp(-12.0, 12.0).masked_fill(~mask, -math.inf)
        if self.kind == "mu":
            logs = torch.cat([torch.zeros_like(logs[..., :1]), logs], dim=-1)
        return torch.exp(logs - logs.amax(-1, keepdim=True).clamp_min(-12.0))

    def log_likelihood(self, items: tuple[Tensor, Tensor], logs: Tensor) -> Tensor:
        """Of log-weights [R, I] as actions, [R]."""
        z = (logs - self.actor(*items)) * torch.exp(-self.log_std)
        return -((0.5 * z.square() + self.log_std) * items[1]).sum(-1)

    def log_cost(self, items: tuple[Tensor, Tensor]) -> Tensor:
        """Logarithm of the cost that is expected from here on, [R]."""
        total = self.critic(*items).sum(-1)
        return (total / items[1].sum(-1).clamp_min(1)).clamp(-10.0, 10.0)

    @torch.no_grad()
    def act(self, rows: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Log-weights [..., I] and weights for [..., size]; without a generator no exploration."""
        features, mask = self.items(rows.flatten(0, -2))
        logs = self.actor(features, mask)
        if generator is not None:
            noise = torch.randn(logs.shape, generator=generator, device=logs.device)
            logs = logs + noise * torch.exp(self.log_std)
        weights = self.weights(logs, mask)
        return tuple(found.unflatten(0, rows.shape[:-1]) for found in (logs, weights))


class Learned(Rule):
    """The learned policy without exploration, from agents or a folder; see `dtmarl.evaluate`."""

    name = "ppo"

    def __init__(self, source: str | Path | nn.ModuleDict) -> None:
        self.source = source

    def reset(self, scenario: dtmarl.ScenarioConfig, seed: int) -> None:
        """Read the weights, which fit a scenario of any size."""
        super().reset(scenario, seed)
        if isinstance(self.source, str | Path):
            agents = nn.ModuleDict({kind: Agents(kind, scenario) for kind in FEATURES})
            with safe_open(Path(self.source) / "policy.safetensors", "pt") as file:
                agents.load_state_dict({key: file.get_tensor(key) for key in file.keys()})
            self.source = agents

    def _weights(self, kind: str, rows: Any) -> Any:
        agents = self.source[kind]
        rows = torch.as_tensor(rows, dtype=torch.float32, device=agents.log_std.device)
        return agents.act(rows)[1].cpu().numpy()

    allocate = partialmethod(_weights, "bs")
    split = partialmethod(_weights, "mu")


def collect(env: Any, agents: nn.ModuleDict, obs: Any, generator: Any) -> tuple[Any, Any]:
    """Play T slots: `HORIZON`, or to the end of the episode.

    Returns:
        The next observations, and what each kind of agents saw [T + 1, E, A, size], did
        [T, E, A, I], caused [T, E, A], and whether they acted [T, E, A].
    """
    rows, logs, costs, acted = {"bs": [], "mu": []}, {"bs": [], "mu": []}, [], []
    truncated = [False]
    while len(costs) < HORIZON and not truncated[0]:
        actions = {}
        for kind, group in agents.items():
            chosen, actions[kind] = group.act(obs[kind], generator)
            rows[kind].append(obs[kind])
            logs[kind].append(chosen)
        obs, _, _, truncated, infos = env.step(actions)
        costs.append(infos["delay_s"] / env.config.reference_delay_s)
        acted.append(infos["mu_acted"])
    following = infos.get("final_obs", obs)  # the time limit ends an episode, not its value
    every = {kind: torch.stack([*rows[kind], following[kind]]) for kind in rows}
    # The reward is minus the mean delay of the users. A user's split is in no term of it but its
    # own, a base station's allocation in none but its users': these alone are an agent's cost,
    # which has the gradient of the whole and far less noise.
    present = torch.stack(acted)
    cost = torch.where(present, torch.stack(costs), 0.0).float()
    linked = every["bs"][:-1][..., env.layouts.bs.slices["associated"]]
    served = linked.sum(-1)
    shared = (linked * cost[:, :, None, :]).sum(-1) / served.clamp_min(1.0)
    return obs, {
        "bs": (every["bs"], torch.stack(logs["bs"]), shared, served > 0.5),
        "mu": (every["mu"], torch.stack(logs["mu"]), cost, present),
    }


def improve(group: Agents, adam: Any, seen: Any, generator: Any, gamma: float) -> None:
    """Some epochs of PPO on what agents of one kind have seen; see `collect`."""
    rows, logs, cost, acted = seen
    with torch.no_grad():
        everything = group.items(rows.flatten(0, -2))
        expected = torch.exp(group.log_cost(everything)).view(rows.shape[:-1])
        surprise = cost + gamma * expected[1:] - expected[:-1]
        total, ahead = torch.zeros_like(surprise), torch.zeros_like(surprise[0])
        for t in reversed(range(len(surprise))):
            total[t] = ahead = surprise[t] + gamma * GAE_LAMBDA * ahead
        returns = (total + expected[:-1])[acted].clamp_min(0.0)
        # Delays differ by slot far more than by action. Relative to what is expected of its slot
        # an advantage has the same best action, and all slots count alike.
        gain = (-total / expected[:-1])[acted].clamp(-LARGEST_ADVANTAGE, LARGEST_ADVANTAGE)
        gain = (gain - gain.mean()) / (gain.std() + 1e-6)
        items, logs = group.items(rows[:-1][acted]), logs[acted]
        before = group.log_likelihood(items, logs)
    for _ in range(EPOCHS):
        order = torch.randperm(len(logs), generator=generator, device=logs.device)
        for some in order.chunk(MINIBATCHES):
            part = (items[0][some], items[1][some])
            ratio = torch.exp(group.log_likelihood(part, logs[some]) - before[some])
            clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP)
            policy_loss = -torch.min(ratio * gain[some], clipped * gain[some]).mean()
            # An exponential likelihood: least at the mean cost, and sound at any scale of it.
            log_cost = group.log_cost(part)
            ended = (returns[some] * torch.exp(-log_cost)).clamp_max(20.0)
            adam.zero_grad()
            (policy_loss + (log_cost + ended).mean()).backward()
            for net in (group.actor, group.critic):
                nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
            adam.step()


def delays(policy: Any, config: dtmarl.ScenarioConfig, seeds: Any) -> np.ndarray:
    """Mean system delay in s of each seed's episode, [seeds], in the worlds of `parallel_env`."""
    env = dtmarl.vector_env(config, num_envs=len(seeds))
    obs, _ = env.reset(seed=seeds)
    policy.reset(config, 0)
    total = np.zeros(len(seeds))
    for _ in range(config.slots_per_episode):
        obs, _, _, _, infos = env.step(policy.act_batch(obs))
        total += infos["system_delay_s"]
    return total / config.slots_per_episode


def save_checkpoint(path: Path, agents: nn.ModuleDict, adam: Any, progress: Any) -> None:
    """Keep all that a run goes on from in one file, so that its parts belong together."""
    tensors = dict(agents.state_dict())
    for name, weight in agents.named_parameters():
        tensors |= {f"{name}/{key}": adam.state[weight][key] for key in STATE}
    write_atomically(path, save(tensors, {"progress": json.dumps(progress)}))


def load_checkpoint(path: Path, agents: nn.ModuleDict, adam: Any) -> Any:
    """Bring agents and optimizer to where a run stopped, and return its progress."""
    with safe_open(path, "pt") as file:
        agents.load_state_dict({name: file.get_tensor(name) for name in agents.state_dict()})
        for name, weight in agents.named_parameters():
            adam.state[weight] = {key: file.get_tensor(f"{name}/{key}") for key in STATE}
        adam.load_state_dict(adam.state_dict())  # moves what belongs on a device there
        return json.loads(file.metadata()["progress"])


def train(args: argparse.Namespace) -> tuple[nn.ModuleDict, dict[str, Any]]:
    """Train until the time or the episodes are spent: the agents, and how it went."""
    config = dtmarl.scenario(args.scenario)
    torch.manual_seed(args.seed)
    agents = nn.ModuleDict({kind: Agents(kind, config) for kind in FEATURES}).to(args.device)
    adam = torch.optim.Adam(agents.parameters())
    generator = torch.Generator(args.device)
    asked = {name: getattr(args, name) for name in ("scenario", "num_envs", "seed", "gamma")}
    progress: dict[str, Any] = {"asked": asked, "episodes": 0, "seconds": 0.0, "curve": []}
    checkpoint = args.out / "checkpoint.safetensors"
    if args.resume:
        progress = load_checkpoint(checkpoint, agents, adam)
        if progress["asked"] != asked:
            raise ValueError(f"--resume: expected {progress['asked']} as before, got {asked}")
    env = dtmarl.vector_env(
        config, num_envs=args.num_envs, backend="torch", device=args.device, compile=args.compile
    )
    unit, total = ("episodes", args.episodes) if args.episodes else ("seconds", 60 * args.minutes)
    started = time.perf_counter() - progress["seconds"]
    with tqdm(total=total, unit=unit, initial=progress[unit]) as bar:
        while progress[unit] < total:
            if progress["episodes"] % args.eval_every == 0:
                delay = float(delays(Learned(agents), config, args.seeds).mean())
                progress["curve"].append([progress["seconds"], progress["episodes"], delay])
                bar.set_postfix_str(f"delay {delay:.2f} s", refresh=False)
            # All numbers of an episode follow from its place in the run: there are none to keep.
            place = FIRST_SEED * (1 + args.seed) + progress["episodes"] * args.num_envs
            generator.manual_seed(place)
            for group in adam.param_groups:
                group["lr"] = LEARNING_RATE * max(1.0 - progress[unit] / total, 0.05)
            # With a new seed there is a new simulation, which would have to be compiled anew.
            obs, _ = env.reset(seed=None if args.compile and bar.n > bar.initial else place)
            for _ in range(math.ceil(config.slots_per_episode / HORIZON)):
                obs, seen = collect(env, agents, obs, generator)
                for kind, group in agents.items():
                    improve(group, adam, seen[kind], generator, args.gamma)
            progress["episodes"] += 1
            progress["seconds"] = time.perf_counter() - started
            save_checkpoint(checkpoint, agents, adam, progress)
            bar.update(progress[unit] - bar.n)
    return agents, progress


def measure(args: argparse.Namespace, agents: nn.ModuleDict, progress: Any) -> dict[str, Any]:
    """The learned policy and the rules on the same held-out seeds, and how training went."""
    config = dtmarl.scenario(args.scenario)
    policies = {name: dtmarl.POLICIES[name]() for name in RULES} | {"ppo": Learned(agents)}
    found = {name: delays(policy, config, args.seeds) for name, policy in policies.items()}
    curve = [*progress["curve"], [progress["seconds"], progress["episodes"], found["ppo"].mean()]]
    return {
        "command": " ".join(["python train/ppo_torch.py", *args.given]),
        "hardware": f"{args.device}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "dtmarl": dtmarl.__version__},
        "scenario_hash": config.hash,
        "seeds": [min(args.seeds), max(args.seeds)],
        "slots": progress["episodes"] * args.num_envs * config.slots_per_episode,
        "delay_s": {name: mean_estimate(values).to_dict() for name, values in found.items()},
        "ppo_over": {name: ratio_estimate(found["ppo"], found[name]).to_dict() for name in RULES},
        "curve": {"seconds, episodes, delay_s": curve},
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """The curve among the levels of the rules: all of them, and the best of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    (rows,) = map(np.array, result["curve"].values())
    levels = {name: result["delay_s"][name]["value"] for name in RULES}
    tops = (1.03 * max(*levels.values(), *rows[:, 2]), 1.03 * levels["root-balanced"])
    for axes, top in zip(figure.subplots(1, 2), tops, strict=True):
        axes.plot(rows[:, 0] / 60, rows[:, 2], color="black", label="PPO")
        for index, (name, level) in enumerate(levels.items()):
            axes.axhline(level, color=f"C{index}", linestyle="--", label=name)
        axes.set(xlabel="training time (min)", ylabel="mean system delay (s)")
        axes.set_ylim(0.99 * min(*levels.values(), *rows[:, 2]), top)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=7)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--scenario", choices=list(SCENARIOS), default="paper-v0")
    add("--num-envs", type=int, default=128)
    add("--minutes", type=float, default=9.0, help="of training")
    add("--episodes", type=int, help="train for so many instead, the same on every run")
    add("--gamma", type=float, default=0.0)
    add("--seed", type=int, default=0)
    add("--device", default="cpu", help="such as cuda")
    add("--compile", action="store_true", help="compile the environment; resumes see new worlds")
    add("--threads", type=int, default=2)
    add("--eval-every", type=int, default=5, help="episodes between points of the curve")
    add("--seeds", type=read_seeds, default=range(1000, 1200), help="held out, to measure on")
    add("--out", type=Path, default=Path("out/ppo"))
    add("--resume", action="store_true", help="continue from the checkpoint in --out")
    args = parser.parse_args(argv)
    args.given = sys.argv[1:] if argv is None else argv
    if min(args.num_envs, args.minutes, args.threads, args.eval_every, args.episodes or 1) <= 0:
        parser.error("numbers: expected positive ones")
    if not 0.0 <= args.gamma < 1.0:
        parser.error("--gamma: expected a number in [0, 1)")
    torch.set_num_threads(args.threads)
    try:
        agents, progress = train(args)
    except KeyboardInterrupt:
        print("stopped; --resume continues after the last whole episode", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = measure(args, agents, progress)
    write_atomically(args.out / "policy.safetensors", save(agents.state_dict()))
    about = {"features": FEATURES} | {name: result[name] for name in result if name != "curve"}
    write_atomically(args.out / "policy.json", json.dumps(about, indent=1) + "\n")
    write_atomically(args.out / "result.json", json.dumps(result, indent=1) + "\n")
    for name, delay in result["delay_s"].items():
        print("{:>15}: {value:.2f} s [{low:.2f}, {high:.2f}]".format(name, **delay))
    try:
        draw(result, args.out / "curve.png")
    except ImportError:
        print("no picture: pip install '.[plot]'", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
