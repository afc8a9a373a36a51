"""The exceptions of sr_edge, as one tree.

    SrEdgeError                  exit code 1: the request was valid, but the work failed
    ├── UsageError               exit code 2: an argument is wrong; nothing was started
    │   ├── UnknownNameError     a model, runtime, precision or method that is not registered
    │   └── TileError            a tile size that does not fit the network or the picture
    ├── WeightsError             a checkpoint is unreadable, unsafe or does not match the network
    ├── FrameError               a picture or video is missing, truncated, too large or of an unknown format
    ├── StorageError             a folder or an object store cannot be listed, read or written
    ├── StreamError              a camera, stream, video file or sink cannot be opened, or is lost
    │   ├── NotSeekable          a video cannot be decoded in parts with exactly the frames of the whole
    │   ├── InexactSeek          the frames of a part of a video are not those that its index lists
    │   └── PartsMissing         parts of a video are missing or damaged, so that they cannot be joined
    ├── ExportError              a graph could not be written, or differs from the network
    │   └── NotDeployable        a general rule, or a requested target, rejects the graph
    │       └── NotStatic        a network has no form with constant shapes; its traced form may work
    ├── CalibrationError         no usable calibration data, or a calibration file that does not match
    │   ├── NothingToQuantize    no layer of the network can be INT8
    │   ├── CacheMismatch        a calibration cache belongs to another model, other pictures or another method
    │   └── CalibrationInterrupted  exit code 130: Ctrl-C; the cache contains all measurements so far
    ├── BundleError              a bundle is damaged, unsafe or of another schema version
    ├── EngineError              a runtime cannot load, compile or run a graph
    ├── RuntimeUnavailable       a runtime's library or device is not available
    │   └── PrecisionUnavailable the runtime is available, but not in the requested precision
    ├── ClusterError             a Ray cluster cannot be reached, or none of its machines can run a job
    └── TrainingError            training cannot start or continue
        └── TrainingInterrupted  exit code 130: Ctrl-C; all steps are saved

Every error has the fields `problem`, `found`, `wanted` and `remedy`; its message consists of the first and the last, in
which passwords in addresses are hidden.
"""

from __future__ import annotations

from sr_edge.printable import message_without_secrets


class SrEdgeError(Exception):
    """Base class of all errors that sr_edge raises; the command line prints one line and exits with `exit_code`.

    `str()` of an error is `problem`, followed by `remedy` if there is one. Programs read the fields, not the text:

    >>> error = TileError("height 250 is not a multiple of 96", found=250, wanted=96, remedy="pass --pad reflect")
    >>> str(error)
    'height 250 is not a multiple of 96; pass --pad reflect'
    >>> error.found
    250

    Args:
        problem: What is wrong, as one sentence without a full stop at its end.
        found: The value that was refused: a number, a name, a path, a shape.
        wanted: What would have been accepted: a value, the values to choose from, a range.
        remedy: What to do about it, as an instruction.
    """

    exit_code = 1

    def __init__(self, problem: str, *, found: object = None, wanted: object = None, remedy: str | None = None) -> None:
        problem, remedy = message_without_secrets(problem), remedy and message_without_secrets(remedy)
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.found = found
        self.wanted = wanted
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles the attributes, because errors pass between processes and `__init__` differs in subclasses."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[SrEdgeError], arguments: tuple[object, ...], fields: dict[str, object]) -> SrEdgeError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class UsageError(SrEdgeError):
    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not registered; the remedy has the choices, and first the one with the most similar spelling.

    >>> str(UnknownNameError("runtime", "tensorflow", ["torch", "openvino"]))
    "unknown runtime 'tensorflow'; choose one of: torch, openvino"
    >>> str(UnknownNameError("runtime", "openvion", ["torch", "openvino"]))
    "unknown runtime 'openvion'; did you mean openvino? Choose one of: torch, openvino"
    """

    def __init__(self, kind: str, name: str, choices: list[str]) -> None:
        from difflib import get_close_matches  # here, because errors are imported by everything

        nearest = get_close_matches(str(name).lower(), choices, 1)
        advice = f"did you mean {nearest[0]}? Choose" if nearest else "choose"
        super().__init__(
            f"unknown {kind} {name!r}", found=name, wanted=choices, remedy=f"{advice} one of: {', '.join(choices)}"
        )


class TileError(UsageError):
    pass


class WeightsError(SrEdgeError):
    pass


class FrameError(SrEdgeError):
    pass


class StorageError(SrEdgeError):
    pass


class StreamError(SrEdgeError):
    pass


class NotSeekable(StreamError):
    pass


class InexactSeek(StreamError):
    pass


class PartsMissing(StreamError):
    """`found` is a tuple with the `FrameRange` of each part that has to be upscaled again."""


class ExportError(SrEdgeError):
    pass


class NotDeployable(ExportError):
    pass


class NotStatic(NotDeployable):
    pass


class CalibrationError(SrEdgeError):
    pass


class NothingToQuantize(CalibrationError):
    pass


class CacheMismatch(CalibrationError):
    pass


class CalibrationInterrupted(CalibrationError):
    exit_code = 130


class BundleError(SrEdgeError):
    pass


class EngineError(SrEdgeError):
    pass


class RuntimeUnavailable(SrEdgeError):
    pass


class PrecisionUnavailable(RuntimeUnavailable):
    pass


class ClusterError(SrEdgeError):
    pass


class TrainingError(SrEdgeError):
    pass


class TrainingInterrupted(TrainingError):
    exit_code = 130
