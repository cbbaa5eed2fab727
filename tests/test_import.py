"""`import dtmarl` is light, and what it offers is there and documented."""

import inspect
import json
import subprocess
import sys

import pytest

import dtmarl

HEAVY = ("torch", "torchvision", "ray", "matplotlib", "safetensors", "tensorflow")


def imported_by(code):
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    path = [entry for entry in sys.path if entry]
    start = f"import sys\nsys.path[:0] = {path!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", start + program], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


PLAY = """
import dtmarl
for env in (dtmarl.parallel_env("paper-v0"), dtmarl.env("hotspot-v0")):
    env.reset(seed=0)
env = dtmarl.parallel_env("vehicular-v0")
env.reset(seed=0)
env.step({a: env.action_space(a).sample() for a in env.agents})
env.state()
env.close()
"""


@pytest.mark.parametrize("code", ["import dtmarl", PLAY], ids=["import", "play"])
def test_nothing_heavy_is_imported(code):
    found = imported_by(code)
    assert "dtmarl" in found
    assert found.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", dtmarl.__all__)
def test_what_is_offered_is_there_and_documented(name):
    offered = getattr(dtmarl, name)
    if inspect.ismodule(offered) or inspect.isclass(offered) or callable(offered):
        assert inspect.getdoc(offered)
    else:
        assert isinstance(offered, dict)
        assert offered


def test_every_public_name_is_offered():
    public = {
        name
        for name, value in vars(dtmarl).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public - set(dtmarl.__all__) <= {"register_with_pettingzoo"}
    assert len(dtmarl.__all__) == len(set(dtmarl.__all__))


def test_the_version_is_a_version():
    assert dtmarl.__version__.count(".") == 2
