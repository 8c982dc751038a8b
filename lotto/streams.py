"""Randomness as a function: every draw comes from a generator made of (seed, stream, index), never from a global state.

Nothing then depends on the number of workers, on a resume, or on what ran before; and a change in one stream (the order
of the data, say) leaves every other (the initialisation) as it was.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import torch

STREAMS = (
    "split",
    "init",
    "order",
    "augment",
    "score",
    "subset",
    "noise",
    "distill",
    "distill-net",
    "shuffle",
    "probe",
    "judge",
    "cutmix",
    "expert",
    "dropout",
)


def generator(seed: int, stream: str, *index: int) -> torch.Generator:
    """A CPU generator for one (seed, stream, index...), the same on every machine and in every process.

    `stream` is one of STREAMS; `index` narrows it (child and epoch, say). Seed 0 is a seed. Draws are made on the CPU,
    also for work on a GPU, so that both see the same order and the same crops.

    >>> torch.randint(100, (3,), generator=generator(0, "order", 1)).tolist() == torch.randint(
    ...     100, (3,), generator=generator(0, "order", 1)).tolist()
    True
    """
    if stream not in STREAMS:
        raise ValueError(f"stream {stream!r} is not known; choose one of {', '.join(STREAMS)}")
    text = ":".join([str(int(seed)), stream, *(str(int(i)) for i in index)])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextlib.contextmanager
def forked(*devices: torch.device) -> Iterator[Callable[..., None]]:
    """Keyed draws also for what takes them from torch's global generators, as dropout does.

    Yields `key(seed, stream, *index)`, which sets the global generators of the CPU and of the CUDA `devices` as
    `generator` would. At the end their states are again what they were before.
    """
    gpus = [d for d in devices if d.type == "cuda"]
    with torch.random.fork_rng(gpus):
        sources = [torch.default_generator, *(torch.cuda.default_generators[d.index] for d in gpus)]

        def key(seed: int, stream: str, *index: int) -> None:
            number = generator(seed, stream, *index).initial_seed()
            for source in sources:
                source.manual_seed(number)

        yield key
