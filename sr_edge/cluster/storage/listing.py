"""Lists the pictures and videos of a source, with the names of their results; all checks of names happen here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sr_edge.cluster.storage.folders import FolderContent, walk
from sr_edge.cluster.storage.list_file import LIST_SUFFIXES, ListedPath, read_list, stamps_of
from sr_edge.cluster.storage.locations import Location, Stamp, exists, is_folder, stamp
from sr_edge.cluster.storage.media_kinds import Kind, kind_of
from sr_edge.cluster.storage.patterns import Pattern
from sr_edge.cluster.storage.target_names import require_different_names, require_separate, result_names_of
from sr_edge.errors import FrameError
from sr_edge.image_files import missing_package
from sr_edge.printable import one_line

OnCount = Callable[[int], None]
"""Called with the number of files that were found so far."""

_SHOWN_NAMES = 3
_COUNT_EVERY = 1000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A picture or video to upscale. A million of them fit into memory.

    Attributes:
        base: The folder or bucket that `path` begins at, one object for all files of a folder.
        path: The path below `base`, with "/".
        name: The path of the result below the target; it identifies the file in items and records.
        kind: Whether it is a picture or a video.
        stamp: Its stamp when it was listed.
    """

    base: Location
    path: str
    name: str
    kind: Kind
    stamp: Stamp

    @property
    def source(self) -> Location:
        return self.base.join(self.path)


@dataclass(frozen=True)
class FailedSource:
    """Something that cannot be upscaled, found while listing.

    Attributes:
        source: The path or URL, without secrets.
        reason: Why it failed.
    """

    source: str
    reason: str


@dataclass
class Listing:
    """What a source contains.

    Attributes:
        files: Its pictures and videos, in the order of their folders and names.
        failures: Entries of a list that do not exist, folders that cannot be read, broken links.
        other_count: Number of files that are neither pictures nor videos.
        other_names: The first of their names.
        linked_folders: The links to folders, which are not followed.
        notes: What the user should know, one sentence each, also about other files and links.
    """

    files: list[SourceFile] = field(default_factory=list)
    failures: list[FailedSource] = field(default_factory=list)
    other_count: int = 0
    other_names: list[str] = field(default_factory=list)
    linked_folders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_other(self, name: str) -> None:
        self.other_count += 1
        if len(self.other_names) < _SHOWN_NAMES:
            self.other_names.append(name)


def list_source(text: str, target: Location, on_count: OnCount | None = None) -> Listing:
    """Lists what a user named as source.

    Args:
        text: A folder, which is searched with its folders; a pattern with *, ** , ? or [...]; a picture or video; or a
            list, a text file that ends in .txt or .lst with one path or URL a line, see `read_list`. Each of them as a
            path or a URL. Hidden files and folders are skipped.
        target: The folder of the results, which must not be in the source.
        on_count: Called now and then with the number of files found so far.

    Returns:
        The pictures and videos. Names of results keep the folders below the source, or below the part of a pattern
        before its first special character.

    Raises:
        UsageError: Two files have one name in the target, or the target is in the source.
        FrameError: The source does not exist, or contains no pictures and videos.
        StorageError: It cannot be read.
    """
    source = Location.parse(text)
    listing = Listing()
    if is_folder(source):
        require_separate(source, target, None)
        _add_folder(listing, source, None, on_count)
    elif exists(source):
        if source.suffix in LIST_SUFFIXES:
            _add_list(listing, source, on_count)
        else:
            _add_single(listing, source)
    else:
        pattern = Pattern.parse(source)
        if pattern is None:
            raise FrameError(
                f"there is no file or folder {source}",
                found=str(source),
                wanted="a folder, a pattern, a picture, a video or a list",
                remedy="check the name",
            )
        if is_folder(pattern.base):
            require_separate(pattern.base, target, pattern.max_depth)
            _add_folder(listing, pattern.base, pattern, on_count)
    _require_content(listing, source)
    require_different_names(listing.files, target)
    listing.notes += [*_note_about_others(listing), *_notes_on_names(listing.files)]
    return listing


def _require_content(listing: Listing, source: Location) -> None:
    """Raises FrameError if there is nothing to upscale and nothing to report as failed."""
    if listing.files or listing.failures:
        return
    others = f", only {listing.other_count} other files" if listing.other_count else ""
    raise FrameError(
        f"{source} contains no pictures and no videos{others}",
        found=listing.other_count,
        wanted="pictures or videos",
        remedy="check the name, and put a pattern in quotation marks",
    )


def _add_folder(listing: Listing, base: Location, pattern: Pattern | None, on_count: OnCount | None) -> None:
    """Adds the files of a folder and its folders that match the pattern."""

    def report(path: str, reason: str) -> None:
        if pattern is None or pattern.may_contain(path):
            listing.failures.append(FailedSource(str(base.join(path)), reason))

    packages: set[str] = set()
    reported = 0
    for content in walk(base, report, pattern.max_depth if pattern else None):
        if _is_unfinished_video(content):
            continue
        listing.linked_folders += map(content.path_of, content.linked_folders)
        _add_content(listing, base, content, pattern, packages)
        if on_count is not None and len(listing.files) >= reported + _COUNT_EVERY:
            reported = len(listing.files)
            on_count(reported)
    listing.notes += [f"pip install {package} to read some of the other files" for package in sorted(packages)]


def _is_unfinished_video(content: FolderContent) -> bool:
    """Whether a folder has the segments of a video that `sr-edge upscale` has not finished."""
    return content.path.endswith(".segments") and any(file.name == "plan.json" for file in content.files)


def _add_content(
    listing: Listing, base: Location, content: FolderContent, pattern: Pattern | None, packages: set[str]
) -> None:
    """Adds the files of one folder, with the names of their results."""
    kinds: dict[str, tuple[Kind, Stamp]] = {}
    for file in content.files:
        path = content.path_of(file.name)
        if pattern is not None and not pattern.matches(path):
            continue
        kind = kind_of(base.join(path)) if file.stamp is not None or file.problem else None
        if kind is not None and file.problem:
            listing.failures.append(FailedSource(str(base.join(path)), file.problem))
            continue
        if kind is not None and file.stamp is not None:
            kinds[file.name] = (kind, file.stamp)
            continue
        listing.add_other(path)
        package = missing_package(Path(file.name))
        if package:
            packages.add(package)
    names = result_names_of({name: kind for name, (kind, _) in kinds.items()})
    for name, (kind, version) in kinds.items():
        path = content.path_of(name)
        result = path if names[name] == name else content.path_of(names[name])
        listing.files.append(SourceFile(base, path, result, kind, version))


def _add_single(listing: Listing, source: Location) -> None:
    kind, version = kind_of(source), stamp(source)
    if kind is None or version is None:
        raise FrameError(
            f"{source} is neither a picture nor a video",
            found=str(source),
            wanted="a folder, a picture, a video, or a list of them with a name that ends in .txt or .lst",
            remedy=_advice(source),
        )
    name = result_names_of({source.name: kind})[source.name]
    listing.files.append(SourceFile(source.parent, source.name, name, kind, version))


def _advice(source: Location) -> str:
    package = missing_package(Path(source.name))
    return f"pip install {package}" if package else "check the name"


def _add_list(listing: Listing, source: Location, on_count: OnCount | None) -> None:
    """Adds the entries of a list; those that are missing are failures and do not stop the others."""
    entries, repeated = read_list(source)
    if repeated:
        listing.notes.append(f"{repeated} entries of the list are repeated and count once")
    kinds_by_folder: dict[tuple[Location, str], dict[str, Kind]] = {}
    accepted: list[tuple[ListedPath, Kind, Stamp]] = []
    for entry, (version, problem) in zip(entries, stamps_of(entries), strict=True):
        location = entry.location
        kind = kind_of(location) if version is not None else None
        if version is None or kind is None:
            listing.failures.append(FailedSource(str(location), problem or "it is neither a picture nor a video"))
            continue
        accepted.append((entry, kind, version))
        folder, _, name = entry.path.rpartition("/")
        kinds_by_folder.setdefault((entry.base, folder), {})[name] = kind
        if on_count is not None and len(accepted) % _COUNT_EVERY == 0:
            on_count(len(accepted))
    names = {key: result_names_of(kinds) for key, kinds in kinds_by_folder.items()}
    for entry, kind, version in accepted:
        folder, separator, name = entry.path.rpartition("/")
        result = f"{folder}{separator}{names[entry.base, folder][name]}"
        listing.files.append(SourceFile(entry.base, entry.path, result, kind, version))


def _note_about_others(listing: Listing) -> list[str]:
    """Sentences that count the files that are neither pictures nor videos, and links to folders."""
    notes = []
    if listing.other_count:
        counted = "1 file is" if listing.other_count == 1 else f"{listing.other_count} files are"
        names = _first_names(listing.other_names, listing.other_count)
        notes.append(f"{counted} neither a picture nor a video and not copied: {names}")
    links = listing.linked_folders
    if links:
        counted = "1 link to a folder is" if len(links) == 1 else f"{len(links)} links to folders are"
        notes.append(f"{counted} not followed: {_first_names(links, len(links))}")
    return notes


def _first_names(names: Sequence[str], count: int) -> str:
    shown = [one_line(name) for name in names[:_SHOWN_NAMES]]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _notes_on_names(files: Sequence[SourceFile]) -> list[str]:
    """Says which suffixes of sources are replaced, once for each suffix."""
    counts: dict[tuple[str, str], int] = {}
    for file in files:
        if file.name != file.path:
            before, after = Path(file.path).suffix.lower(), Path(file.name).suffix.lower()
            counts[before, after] = counts.get((before, after), 0) + 1
    return [
        f"{before or 'these'} files cannot be written, so the results of {count} are {after} files"
        for (before, after), count in sorted(counts.items())
    ]
