"""Where a long computation keeps its state, so that a killed one goes on instead of starting over."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Paused(RuntimeError):
    """The time given to a run is up. What was finished, and the last state of what was not, is kept."""

    def __init__(self) -> None:
        super().__init__(
            "paused, as the time given is up; what was finished is kept, and the same command goes on from there"
        )

    def __reduce__(self) -> tuple:
        return Paused, ()  # an error crosses process borders by its arguments, and this one takes none


class Checkpoint:
    """The state of a computation in a folder of its own, and how long it has taken.

    folder: where; None keeps nothing. every: seconds between two savings. deadline: seconds since 1970 after which
    `save` raises Paused.
    """

    def __init__(self, folder: Path | None, every: float = 60.0, deadline: float = math.inf):
        self.folder, self.every, self.deadline = folder, every, deadline
        self._last, self._part = time.monotonic(), f"state.{uuid.uuid4().hex[:8]}.part"
        self._began, self._before = self._last, 0.0

    def seconds(self) -> float:
        """Seconds of work so far: since this was made, and those that lie behind the state that was loaded."""
        return self._before + time.monotonic() - self._began

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last state saved, as (tensors, plain data), or None."""
        if self.folder is None:
            return None
        from safetensors import SafetensorError, safe_open

        # what a crash of the machine has left half-written is no state
        with (
            contextlib.suppress(FileNotFoundError, SafetensorError),
            safe_open(self.folder / "state.safetensors", "pt") as f,
        ):
            self._before = float(f.metadata().get("seconds", 0))
            return {name: f.get_tensor(name) for name in f.keys()}, json.loads(f.metadata()["state"])  # noqa: SIM118
        return None

    def due(self) -> bool:
        """Whether it is time to save again: every `every` seconds, and when the deadline has passed."""
        return self.folder is not None and (time.monotonic() - self._last >= self.every or time.time() >= self.deadline)

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the state by this one, atomically. Raises Paused once the deadline has passed."""
        # a part of our own, and a folder that may go at any time: another process may compute the same without our
        # knowing (on a file system without locks), and clears up when it is the first to finish
        with contextlib.suppress(FileExistsError):  # there when it was made, and gone when mkdir looked what it is
            self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            told = {"state": json.dumps(state), "seconds": str(self.seconds())}
            save_tensors(tensors, self.folder / self._part, told)
            with (self.folder / self._part).open("rb") as f:
                os.fsync(f.fileno())
            (self.folder / self._part).replace(self.folder / "state.safetensors")
        self._last = time.monotonic()
        if time.time() >= self.deadline:
            raise Paused


def save_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, from any device; clones, as the format refuses tensors that share storage. OSError
    where the file cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, file, metadata=metadata)
    except SafetensorError as error:  # hides what the system said, such as that the disk is full
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from None
        raise
