"""Doctests of modules that need an extra are collected only where that extra is installed."""

from importlib.util import find_spec

collect_ignore = []
if find_spec("torch") is None:
    collect_ignore += [
        "dtmarl/accuracy/classifier.py",
        "dtmarl/accuracy/images.py",
        "dtmarl/accuracy/resnet18.py",
        "dtmarl/accuracy/training.py",
        "dtmarl/backend_torch.py",
        "dtmarl/counter_noise.py",
        "dtmarl/envs/torch_simulation.py",
    ]
