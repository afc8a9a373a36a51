"""Every error that sr_edge raises on purpose, as one tree.

    SrEdgeError                  exit code 1: the request was sound, the work failed
    ├── UsageError               exit code 2: an argument is wrong; nothing was started
    │   ├── UnknownNameError     a model, runtime, precision or method nobody registered
    │   └── TileError            a tile that the network or the picture cannot take
    ├── WeightsError             a checkpoint is unreadable, unsafe or does not fit the network
    ├── FrameError               a picture or video is missing, truncated, too large or of an unknown kind
    ├── StreamError              a camera, stream, video file or sink cannot be opened, or is lost
    ├── ExportError              a graph could not be written, or is not what was promised
    │   └── NotDeployable        a rule that holds everywhere, or a target that was asked for, refuses the graph
    │       └── NotStatic        a network has no form with constant shapes; its traced form may do
    ├── CalibrationError         no usable calibration data, or a calibration file that does not fit
    │   ├── NothingToQuantize    no layer of the network can be INT8
    │   ├── CacheMismatch        a calibration cache was made from another model, other pictures or by another method
    │   └── CalibrationInterrupted  exit code 130: Ctrl-C; the cache keeps what was measured
    ├── BundleError              a bundle is damaged, unsafe or of another schema version
    ├── EngineError              a runtime cannot load, compile or run a graph
    ├── RuntimeUnavailable       a runtime's library or device is absent
    │   └── PrecisionUnavailable the runtime is there but cannot run the precision asked for
    └── TrainingError            training cannot start or go on
        └── TrainingInterrupted  exit code 130: Ctrl-C; all steps are saved

Every error has the fields `problem`, `found`, `wanted` and `remedy`; its message is made of the first and the last.
"""

from __future__ import annotations


class SrEdgeError(Exception):
    """Base of all deliberate errors; the command line prints it as one line and exits with `exit_code`.

    `str()` of an error is `problem`, followed by `remedy` where there is one. Programs read the fields, never the text:

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
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.found = found
        self.wanted = wanted
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles what the error consists of, since errors cross from process to process and `__init__` may differ."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[SrEdgeError], arguments: tuple[object, ...], fields: dict[str, object]) -> SrEdgeError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class UsageError(SrEdgeError):
    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is in no registry.

    >>> str(UnknownNameError("runtime", "tensorflow", ["torch", "openvino"]))
    "unknown runtime 'tensorflow'; choose one of: torch, openvino"
    """

    def __init__(self, kind: str, found: str, known: list[str]) -> None:
        super().__init__(
            f"unknown {kind} {found!r}", found=found, wanted=known, remedy=f"choose one of: {', '.join(known)}"
        )


class TileError(UsageError):
    pass


class WeightsError(SrEdgeError):
    pass


class FrameError(SrEdgeError):
    pass


class StreamError(SrEdgeError):
    pass


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


class TrainingError(SrEdgeError):
    pass


class TrainingInterrupted(TrainingError):
    exit_code = 130
