"""Prints a digest of a short episode of every scenario under every scheme, keys in their order."""

import hashlib
from collections.abc import Iterator

from playing import as_dicts, episode, short

import dtmarl
from dtmarl.testing import trees


def digests() -> Iterator[str]:
    """One line for each scenario and scheme."""
    for scenario in dtmarl.scenarios():
        for scheme in dtmarl.SCHEMES:
            env = dtmarl.parallel_env(short(scenario), controller=scheme)
            hasher = hashlib.sha256()
            trees.digest_into(hasher, as_dicts(episode(env, seed=8)))
            yield f"{scenario} {scheme} {hasher.hexdigest()}"


if __name__ == "__main__":
    print("\n".join(digests()))
