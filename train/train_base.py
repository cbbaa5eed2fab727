"""Train the base classifier once: ResNet-18 on 40,000 CIFAR-10 images, or on small digits.

Writes to ``--out``: ``images.npz`` (all images as uint8 arrays, with the fixed split into base,
pool and test), ``base.safetensors`` (weights) and ``base.json`` (recipe, provenance, recall per
class, digests of the other two). A killed run continues from its last epoch and ends with the same
weights. The ``resnet18`` engine uses the folder that ``DTMARL_BASE_NETWORK`` names, or the default
of ``--out``, which is in the user's cache.

    python train/train_base.py --data cifar10 --out runs/base
    python train/train_base.py --data digits        # scikit-learn's, needs no files; half a minute
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from dtmarl.accuracy.base_network import DIGITS_RECIPE, BaseRecipe, default_folder, prepare
from dtmarl.accuracy.images import DIGITS


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        required=True,
        help="'digits'; or a folder with train/<class>/* and test/<class>/* images, or the root "
        "that torchvision.datasets.CIFAR10 uses",
    )
    parser.add_argument("--out", type=Path, default=default_folder(), help="folder for the results")
    parser.add_argument("--checkpoint-dir", type=Path, help="where to keep the last epoch's state")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    recipe = replace(DIGITS_RECIPE if args.data == DIGITS else BaseRecipe(), seed=args.seed)
    if args.epochs is not None:
        recipe = replace(recipe, epochs=args.epochs)
    try:
        report = prepare(
            args.data,
            args.out,
            recipe,
            checkpoint_folder=args.checkpoint_dir,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"accuracy {report['accuracy']:.4f}, recall {report['recall']}, in {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
