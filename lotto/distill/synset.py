"""SynSet: a few images that stand in for many, with all that is needed to use them rightly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lotto.data import DataError, Split, check_images


@dataclass(frozen=True)
class SynSet:
    """Images in [0, 1] (not normalised), hard labels, the normalisation they were made for, and how they were made."""

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    recipe: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_images(self.images, self.labels, len(self.classes))
        low, high = float(self.images.min()), float(self.images.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise DataError(
                f"pixels run from {low:.3g} to {high:.3g}; a SynSet holds them in [0, 1], before any normalisation: "
                "undo it with images * std + mean"
            )

    def split(self) -> Split:
        """What a net trains on: normalised images with labels."""
        return Split((self.images - self.mean[:, None, None]) / self.std[:, None, None], self.labels)

    def save(self, file: Path | str) -> None:
        """One safetensors file; the metadata holds classes and recipe as JSON."""
        save_file(
            {n: getattr(self, n).detach().cpu().contiguous() for n in ("images", "labels", "mean", "std")},
            file,
            metadata={"lotto": json.dumps({"classes": self.classes, "recipe": self.recipe})},
        )

    @classmethod
    def load(cls, file: Path | str) -> SynSet:
        """Read what `save` wrote; DataError where the file is not one, or is cut short."""
        try:
            with safe_open(file, "pt") as f:
                meta = json.loads((f.metadata() or {})["lotto"])
                return cls(
                    *(f.get_tensor(n) for n in ("images", "labels")),
                    tuple(meta["classes"]),
                    *(f.get_tensor(n) for n in ("mean", "std")),
                    meta["recipe"],
                )
        except FileNotFoundError:
            raise DataError(f"{file}: no such file; save a SynSet there first") from None
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise DataError(f"{file}: is no SynSet file, or is cut short ({error}); make it again with SynSet.save") from None


def spread(n: int, classes: int) -> Int64[Tensor, " n_classes"]:
    """Labels of n images a class, class by class: 0 0 ... 1 1 ..."""
    return torch.arange(classes).repeat_interleave(n)
