"""PPO on the vector environment in plain torch: one file, to read and to copy.

    python train/ppo_torch.py --out out/ppo      # --resume goes on from where a run was stopped

All base stations share one policy, all users another. Slots are nearly independent: what an action
does to later ones is little (what was uploaded, which models have moved), so looking ahead adds
more noise than it tells, and gamma is 0 unless told. `Learned(load(folder, scenario))` is what was
learned as a policy for `dtmarl.evaluate`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import defaultdict
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
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
ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")
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
        nn.init.uniform_(self.last.weight, -1e-3, 1e-3)  # to begin with, all weights alike

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """From features [R, I, F] and the mask [R, I] of associated items, numbers [R, I]."""
        # Most pairs are not associated: only those that are go through the layers.
        row, item = torch.nonzero(mask, as_tuple=True)
        each = torch.tanh(self.first(features[row, item]))
        count = mask.sum(-1, keepdim=True).clamp_min(1)
        pooled = each.new_zeros(len(mask), each.shape[-1]).index_add(0, row, each) / count
        hidden = torch.tanh(self.own(each) + self.others(pooled).index_select(0, row))
        return each.new_zeros(mask.shape).index_put((row, item), self.last(hidden)[:, 0])


class Agents(nn.Module):
    """Policy and critic of one kind of agent: base stations weigh users, users base stations.

    An action is a normal vector of log-weights, one per associated item: no other item matters, so
    that none is in the likelihood. A user's weight for itself is 1, as only ratios matter.
    """

    def __init__(self, kind: str, config: dtmarl.ScenarioConfig) -> None:
        super().__init__()
        self.kind, self.slices = kind, getattr(Observations(config), kind).slices
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

    def log_likelihood(self, items: tuple[Tensor, Tensor], logs: Tensor) -> Tensor:
        """Of log-weights [R, I] as actions, [R]."""
        z = (logs - self.actor(*items)) * torch.exp(-self.log_std)
        return -((0.5 * z.square() + self.log_std) * items[1]).sum(-1)

    def log_cost(self, items: tuple[Tensor, Tensor]) -> Tensor:
        """Logarithm of the cost that is expected from here on, [R]."""
        return (self.critic(*items).sum(-1) / items[1].sum(-1).clamp_min(1)).clamp(-10.0, 10.0)

    @torch.no_grad()
    def act(self, rows: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Log-weights [..., I] and weights for [..., size]; without a generator no exploration."""
        features, mask = self.items(rows.flatten(0, -2))
        logs = self.actor(features, mask)
        if generator is not None:
            noise = torch.randn(logs.shape, generator=generator, device=logs.device)
            logs = logs + noise * torch.exp(self.log_std)
        known = logs.clamp(-12.0, 12.0).masked_fill(~mask, -math.inf)
        if self.kind == "mu":
            known = torch.cat([torch.zeros_like(known[..., :1]), known], dim=-1)
        weights = torch.exp(known - known.amax(-1, keepdim=True).clamp_min(-12.0))
        return tuple(found.unflatten(0, rows.shape[:-1]) for found in (logs, weights))


class Learned(Rule):
    """The learned policy without exploration."""

    def __init__(self, agents: nn.ModuleDict) -> None:
        self.agents = agents

    def _weights(self, kind: str, rows: Any) -> Any:
        device = self.agents[kind].log_std.device
        rows = torch.as_tensor(rows, dtype=torch.float32, device=device)
        return self.agents[kind].act(rows)[1].cpu().numpy()

    allocate, split = partialmethod(_weights, "bs"), partialmethod(_weights, "mu")


def load(folder: str | Path, scenario: str | dtmarl.ScenarioConfig) -> nn.ModuleDict:
    """The agents that a run left in a folder, for a scenario of any size."""
    agents = nn.ModuleDict({kind: Agents(kind, dtmarl.scenario(scenario)) for kind in FEATURES})
    agents.load_state_dict(load_file(Path(folder) / "policy.safetensors"))
    return agents


def collect(env: Any, agents: nn.ModuleDict, obs: Any, generator: Any) -> tuple[Any, Any]:
    """Play T slots with exploration: `HORIZON`, or to the end of the episode.

    Returns:
        The next observations, and what each kind of agents saw [T + 1, E, A, size], did
        [T, E, A, I], caused [T, E, A], and whether they acted [T, E, A].
    """
    rows, logs, costs, acted, truncated = defaultdict(list), defaultdict(list), [], [], [False]
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
    bs, mu = (torch.stack([*rows[kind], following[kind]]) for kind in ("bs", "mu"))
    # The reward is minus the mean delay of the users. A user's split is in no term of it but its
    # own, a base station's allocation in none but its users': these alone are an agent's cost,
    # which has the gradient of the whole and far less noise.
    present = torch.stack(acted)
    cost = torch.where(present, torch.stack(costs), 0.0).float()
    linked = bs[:-1][..., env.layouts.bs.slices["associated"]]
    served = linked.sum(-1)
    shared = (linked * cost[:, :, None, :]).sum(-1) / served.clamp_min(1.0)
    bs_logs, mu_logs = (torch.stack(logs[kind]) for kind in ("bs", "mu"))
    return obs, {"bs": (bs, bs_logs, shared, served > 0.5), "mu": (mu, mu_logs, cost, present)}


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
            better = torch.min(ratio * gain[some], ratio.clamp(1 - CLIP, 1 + CLIP) * gain[some])
            # An exponential likelihood: least at the mean cost, and sound at any scale of it.
            log_cost = group.log_cost(part)
            worse = log_cost + (returns[some] * torch.exp(-log_cost)).clamp_max(20.0)
            adam.zero_grad()
            (worse - better).mean().backward()
            for net in (group.actor, group.critic):
                nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
            adam.step()


def delays(policy: Any, args: argparse.Namespace) -> np.ndarray:
    """Mean system delay in s of each seed's episode, [seeds], in the worlds of `parallel_env`."""
    env = dtmarl.vector_env(args.scenario, num_envs=len(args.seeds))
    obs, _ = env.reset(seed=args.seeds)
    policy.reset(env.config, 0)
    slots = []
    for _ in range(env.config.slots_per_episode):
        obs, _, _, _, infos = env.step(policy.act_batch(obs))
        slots.append(infos["system_delay_s"])
    return np.mean(slots, axis=0)


def train(args: argparse.Namespace, path: Path) -> tuple[nn.ModuleDict, dict[str, Any]]:
    """Train until the time or the episodes are spent: the agents, and how it went."""
    config = dtmarl.scenario(args.scenario)
    torch.manual_seed(args.seed)
    agents = nn.ModuleDict({kind: Agents(kind, config) for kind in FEATURES}).to(args.device)
    adam, generator = torch.optim.Adam(agents.parameters()), torch.Generator(args.device)
    asked = {name: getattr(args, name) for name in ("scenario", "num_envs", "seed", "gamma")}
    at: dict[str, Any] = {"asked": asked, "episodes": 0, "seconds": 0.0, "curve": []}
    if args.resume:
        with safe_open(path, "pt") as file:
            agents.load_state_dict({name: file.get_tensor(name) for name in agents.state_dict()})
            for name, weight in agents.named_parameters():
                adam.state[weight] = {key: file.get_tensor(f"{name}/{key}") for key in ADAM_STATE}
            at = json.loads(file.metadata()["at"])
        adam.load_state_dict(adam.state_dict())  # moves what belongs on a device there
        if at["asked"] != asked:
            raise ValueError(f"--resume: expected {at['asked']} as before, got {asked}")
    options = {"num_envs": args.num_envs, "device": args.device, "compile": args.compile}
    env = dtmarl.vector_env(config, backend="torch", **options)
    unit, total = ("episodes", args.episodes) if args.episodes else ("seconds", 60 * args.minutes)
    started = time.perf_counter() - at["seconds"]
    with tqdm(total=total, unit=unit, initial=at[unit]) as bar:
        while at[unit] < total:
            if at["episodes"] % args.eval_every == 0:
                at["curve"].append([at["seconds"], float(delays(Learned(agents), args).mean())])
                bar.set_postfix_str(f"delay {at['curve'][-1][1]:.2f} s", refresh=False)
            # All numbers of an episode follow from its place in the run: there are none to keep.
            place = FIRST_SEED * (1 + args.seed) + at["episodes"] * args.num_envs
            generator.manual_seed(place)
            adam.param_groups[0]["lr"] = LEARNING_RATE * max(1.0 - at[unit] / total, 0.05)
            # With a new seed there is a new simulation, which would have to be compiled anew.
            obs, _ = env.reset(seed=None if args.compile and bar.n > bar.initial else place)
            for _ in range(math.ceil(config.slots_per_episode / HORIZON)):
                obs, seen = collect(env, agents, obs, generator)
                for kind, group in agents.items():
                    improve(group, adam, seen[kind], generator, args.gamma)
            at |= {"episodes": at["episodes"] + 1, "seconds": time.perf_counter() - started}
            tensors = dict(agents.state_dict())
            for name, weight in agents.named_parameters():
                tensors |= {f"{name}/{key}": adam.state[weight][key] for key in ADAM_STATE}
            write_atomically(path, save(tensors, {"at": json.dumps(at)}))
            bar.update(at[unit] - bar.n)
    return agents, at


def report(args: argparse.Namespace, agents: nn.ModuleDict, at: dict[str, Any]) -> None:
    """Measure policy and rules on the same seeds, and write policy, result and picture."""
    policies = {name: dtmarl.POLICIES[name]() for name in RULES} | {"ppo": Learned(agents)}
    found = {name: delays(policy, args) for name, policy in policies.items()}
    at["curve"].append([at["seconds"], float(found["ppo"].mean())])
    result = {
        "command": " ".join(["python train/ppo_torch.py", *sys.argv[1:]]),
        "hardware": f"{args.device}, {os.cpu_count()} CPUs, {args.threads} threads",
        "versions": {"torch": torch.__version__, "dtmarl": dtmarl.__version__},
        "delay_s": {name: mean_estimate(values).to_dict() for name, values in found.items()},
        "ppo_over": {name: ratio_estimate(found["ppo"], found[name]).to_dict() for name in RULES},
    }
    write_atomically(args.out / "policy.safetensors", save(agents.state_dict()))
    write_atomically(args.out / "policy.json", json.dumps({"features": FEATURES} | result))
    write_atomically(args.out / "result.json", json.dumps(result | at) + "\n")
    for name, values in found.items():
        print(f"{name:>15}: {values.mean():.2f} s")
    try:
        from matplotlib.figure import Figure
    except ImportError:  # the extra `plot` is not installed; everything else is there
        return
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    minutes, delay_s = np.array(at["curve"]).T / [[60.0], [1.0]]
    means = {name: found[name].mean() for name in RULES}
    tops = 1.02 * max(*means.values(), *delay_s), 1.03 * means["root-balanced"]
    for axes, top in zip(figure.subplots(1, 2), tops, strict=True):
        axes.plot(minutes, delay_s, color="black", label="PPO")
        for index, (name, mean) in enumerate(means.items()):
            axes.axhline(mean, color=f"C{index}", linestyle="--", label=name)
        axes.set(xlabel="training time (min)", ylabel="mean system delay (s)")
        axes.set_ylim(0.99 * min(*means.values(), *delay_s), top)
    axes.set_title("the same, near the best rules")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=7)
    figure.savefig(args.out / "curve.png", dpi=150)


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", choices=list(SCENARIOS), default="paper-v0")
    parser.add_argument("--compile", action="store_true", help="compile the environment")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    for option, kind, default, meaning in (
        ("--num-envs", int, 64, "environments at once"),
        ("--minutes", float, 4.0, "of training"),
        ("--episodes", int, None, "train for so many instead, the same on every run"),
        ("--gamma", float, 0.0, "discount, below 1"),
        ("--seed", int, 0, "of training"),
        ("--device", str, "cpu", "such as cuda"),
        ("--threads", int, 1, "of torch"),
        ("--eval-every", int, 2, "episodes between points of the curve"),
        ("--seeds", read_seeds, range(1000, 1200), "held out, to measure on"),
        ("--out", Path, Path("out/ppo"), "folder for policy, checkpoint, result and picture"),
    ):
        parser.add_argument(option, type=kind, default=default, help=meaning)
    args = parser.parse_args(argv)
    sizes = args.num_envs, args.minutes, args.threads, args.eval_every, args.seed + 1
    if (
        not min(*sizes, 1 if args.episodes is None else args.episodes) > 0
        or not 0 <= args.gamma < 1
    ):
        parser.error("expected positive numbers, --seed of at least 0 and --gamma in [0, 1)")
    torch.set_num_threads(args.threads)
    try:
        agents, at = train(args, args.out / "checkpoint.safetensors")
    except KeyboardInterrupt:
        print("stopped; --resume continues after the last whole episode", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(args, agents, at)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
