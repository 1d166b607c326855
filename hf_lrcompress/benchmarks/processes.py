"""Measurements that have a process of their own, which prints what it found as JSON."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


def measured_by(command: Sequence[Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a command prints last.

    Args:
        command (`Sequence`): The program and its arguments.
        environment (`Mapping[str, str]`, *optional*): Variables that it has besides those of this process.

    Raises:
        OSError: If it fails; the last line that it printed of that is in the message. A `ChildProcessError` if it was killed, as
            the system does when there is no memory left.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | (environment or {}))
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        error = ChildProcessError if done.returncode == -9 else OSError
        raise error(f"the measurement by {words[0]} failed: {said[0]}")
    return json.loads(done.stdout.splitlines()[-1])
