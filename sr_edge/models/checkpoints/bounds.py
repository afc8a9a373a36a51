"""Limits on the contents of a checkpoint, and the conversion of readers' exceptions into errors of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_edge.errors import SrEdgeError, WeightsError
from sr_edge.printable import one_line

MAX_PICKLE_BYTES = 1 << 28
MAX_PICKLE_OPCODES = 3_000_000
MAX_DEPTH = 32
MAX_MAPPINGS = 100_000
MAX_SETS = 32
MAX_TENSORS = 20_000
"""In one set of weights."""

MAX_CANDIDATES = 64
"""Candidates of a file that are compared with networks, over all sets together."""

MAX_NAME = 1024
"""Characters in a key, a class or the key of a storage."""

MAX_DIMENSIONS = 16

MAX_EXPANSION = 8
"""Largest ratio of the float32 tensors of a set to the whole file: 4 for float8, times 2 for tied weights."""

EXPANSION_ALLOWANCE_BYTES = 1 << 26
"""Additional bytes that are allowed, since small buffers are often stored as expanded views."""

MAX_MESSAGE = 200

COPY_AGAIN = "copy the file again"
SAVE_STATE_DICT = "save the state_dict of the network alone, and give that file"
TAKE_FLOAT = "take the floating-point checkpoint that it was made from"
"""Remedies that several error messages share."""

READABLE = "a checkpoint of PyTorch or safetensors"


class UnreadableCheckpoint(WeightsError):
    """A fault of a checkpoint; its problem is a clause that follows the path of the file ("is empty")."""


@contextmanager
def reporting_read_errors(path: Path) -> Iterator[None]:
    """Converts any exception of a reader in this block into a WeightsError of one line that begins with the path.

    The readers of torch and safetensors may raise anything for a damaged file, RecursionError, IndexError and
    struct.error among others, so a list of exception types would be incomplete.
    """
    try:
        yield
    except UnreadableCheckpoint as error:
        value = path if error.found is None else error.found
        raise WeightsError(f"{path} {error.problem}", found=value, wanted=error.wanted, remedy=error.remedy) from error
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
    """The first line of an exception's message; its type where the message is empty."""
    # The message of a KeyError is only the missing key, such as "101".
    text = "" if isinstance(error, KeyError) else str(error).strip()
    return short_line(text.partition("\n")[0]) or type(error).__name__


def short_line(text: str) -> str:
    """Text from a file or a library for a message: on one line, shortened, without control characters."""
    line = one_line(text)
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + "..."


def require_short(key: str | bytes) -> None:
    """Raises UnreadableCheckpoint for a key longer than MAX_NAME, since processing can be quadratic in its length."""
    if len(key) > MAX_NAME:
        raise UnreadableCheckpoint(
            f"contains a key of {len(key):,} characters, more than the limit of {MAX_NAME:,}",
            found=len(key),
            wanted=MAX_NAME,
            remedy=SAVE_STATE_DICT,
        )


def require_bounded(elements: int, file_bytes: int, name: str) -> None:
    """Raises UnreadableCheckpoint where tensors, as float32, would be far larger than the file that contains them.

    Args:
        elements: number of elements of all tensors of a set.
        file_bytes: size of the file.
        name: name of the set; empty for the top level of the file.
    """
    needed = 4 * elements
    if needed > MAX_EXPANSION * file_bytes + EXPANSION_ALLOWANCE_BYTES:
        raise UnreadableCheckpoint(
            f"describes tensors of {needed / 1e9:,.1f} GB in {name or 'its top level'}, but is a file of only "
            f"{file_bytes:,} bytes",
            found=needed,
            wanted=MAX_EXPANSION * file_bytes + EXPANSION_ALLOWANCE_BYTES,
            remedy="save the state_dict with contiguous tensors",
        )
