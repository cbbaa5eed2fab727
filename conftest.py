"""Doctests of modules that need an extra are collected only where that extra is installed."""

from importlib.util import find_spec

# It holds all of torch's names, and some of those cannot be looked at for doctests.
collect_ignore = ["dtmarl/backend_torch.py"]
if find_spec("torch") is None:
    collect_ignore += [
        "dtmarl/accuracy/classifier.py",
        "dtmarl/accuracy/images.py",
        "dtmarl/accuracy/resnet18.py",
        "dtmarl/accuracy/training.py",
        "dtmarl/counter_noise.py",
        "dtmarl/envs/compiled_simulation.py",
        "dtmarl/envs/torch_streams.py",
    ]
