"""Small sets of images that stand in for a large one, and the controls that show what such a set is worth."""

from lotto.distill.gradients import match_gradients
from lotto.distill.matching import match_distributions
from lotto.distill.sets import SetOf, distilled, inner_images, noise, small_set, subset
from lotto.distill.synset import SynSet
from lotto.distill.trajectories import match_trajectories

__all__ = [
    "SetOf",
    "SynSet",
    "distilled",
    "inner_images",
    "match_distributions",
    "match_gradients",
    "match_trajectories",
    "noise",
    "small_set",
    "subset",
]
