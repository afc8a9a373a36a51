"""How much a checkpoint may hold, and the one border at which readers' exceptions become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_edge.errors import SrEdgeError, WeightsError

MAX_PICKLE_BYTES = 1 << 28
MAX_PICKLE_OPCODES = 3_000_000
MAX_DEPTH = 32
MAX_MAPPINGS = 100_000
MAX_SETS = 32
MAX_TENSORS = 20_000
"""In one set of weights."""

MAX_CANDIDATES = 64
"""Ways to read a file that are compared with networks, in all sets together."""

MAX_NAME = 1024
"""Characters in a key, a class or the key of a storage."""

MAX_DIMENSIONS = 16

GROWTH = 8
"""How much larger the float32 tensors of a set may be than the whole file: 4 for float8, twice for tied weights."""

SLACK_BYTES = 1 << 26
"""What they may be larger beside that: small buffers are often stored as expanded views."""

MAX_MESSAGE = 200

COPY_AGAIN = "copy the file again"
SAVE_STATE_DICT = "save the state_dict of the network alone, and give that file"
TAKE_FLOAT = "take the floating-point checkpoint that it was made from"
"""Remedies that several messages share."""

READABLE = "a checkpoint of PyTorch or safetensors"


class Unreadable(WeightsError):
    """What is wrong with a checkpoint; its problem is a clause that follows the path of the file ("is empty")."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a reader raises in this block becomes a WeightsError of one line that begins with the path.

    torch's and safetensors' readers raise whatever a damaged file leads them to, RecursionError, IndexError and
    struct.error among others, so that no list of them is complete.
    """
    try:
        yield
    except Unreadable as error:
        refused = path if error.found is None else error.found
        raise WeightsError(
            f"{path} {error.problem}", found=refused, wanted=error.wanted, remedy=error.remedy
        ) from error
    except SrEdgeError:
        raise
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or first_line(error)}",
            found=path,
            wanted="a readable file",
            remedy="check its path and its permissions",
        ) from error
    except MemoryError as error:
        raise WeightsError(
            f"{path} needs more memory than is available",
            found=path,
            remedy="close other programs",
        ) from error
    except Exception as error:
        raise WeightsError(
            f"{path} is not a readable checkpoint, or it was cut short ({first_line(error)})",
            found=path,
            wanted=READABLE,
            remedy=COPY_AGAIN,
        ) from error


def first_line(error: BaseException) -> str:
    """The beginning of what an exception says, on one line; its type where it says nothing."""
    # A KeyError is only what a reader stumbled over, such as "101".
    text = "" if isinstance(error, KeyError) else str(error).strip()
    return shown(text.partition("\n")[0]) or type(error).__name__


def shown(text: str) -> str:
    """A text from a file or a library as part of a message: on one line, not too long, without control characters."""
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + "..."


def require_short(key: str | bytes) -> None:
    """Raises Unreadable for a key that no network has: what is done with keys can take the square of their length."""
    if len(key) > MAX_NAME:
        raise Unreadable(
            f"contains a key of {len(key):,} characters, more than the limit of {MAX_NAME:,}",
            found=len(key),
            wanted=MAX_NAME,
            remedy=SAVE_STATE_DICT,
        )


def require_bounded(elements: int, file_bytes: int, name: str) -> None:
    """Raises Unreadable where tensors, as float32, are out of all proportion to the file that they are stored in."""
    needed = 4 * elements
    if needed > GROWTH * file_bytes + SLACK_BYTES:
        raise Unreadable(
            f"describes tensors of {needed / 1e9:,.1f} GB in {name or 'its top level'}, but is a file of only "
            f"{file_bytes:,} bytes",
            found=needed,
            wanted=GROWTH * file_bytes + SLACK_BYTES,
            remedy="save the state_dict with contiguous tensors",
        )
