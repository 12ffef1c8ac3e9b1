"""Configuration archives: what is refused, and unpacking that cannot leave its folder.

Used by the server before it stores an archive and by agents before they unpack one; no Django.
Refused are paths that leave the folder, links, devices, duplicates, names that differ only in
case, `.terraform/`, and archives that are too large, too many or too dense (OWASP ASVS 5.2.3,
5.2.5, 5.3.3; CVE-2025-4517 shows that tarfile's own filter is not enough).
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tasks_app.exceptions import ArchiveRefused

_COPY_BYTES = 1 << 20
#: Without control characters and without bytes that are not UTF-8.
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
#: Headers that hold long names and the like; a file's size.
_HEADER_MAX = 1 << 16
_SIZE_MAX = 1 << 62


@dataclass(frozen=True)
class ArchiveLimits:
    """Sizes in bytes; ``ratio`` is unpacked to packed."""

    unpacked_bytes: int = 512 * 1024**2
    files: int = 10_000
    ratio: int = 200
    path_length: int = 240


@dataclass(frozen=True)
class ArchiveFacts:
    """What a good archive holds."""

    files: int
    unpacked_bytes: int


def check_archive(archive: IO[bytes], packed_bytes: int, limits: ArchiveLimits) -> ArchiveFacts:
    """Read a whole tar.gz and refuse whatever is never unpacked.

    Args:
        archive: at its start; read to its end.
        packed_bytes: its size, for the ratio.

    Raises:
        ArchiveRefused: the sentence names the offending entry.
    """
    files = unpacked = 0
    for _, member in _members(archive, packed_bytes, limits):
        if member.isfile():
            files += 1
            unpacked += member.size
    if not files:
        raise ArchiveRefused("The archive holds no files.", field="archive")
    return ArchiveFacts(files, unpacked)


def extract(archive: Path, destination: Path, limits: ArchiveLimits) -> ArchiveFacts:
    """Unpack a tar.gz into an empty folder, with plain modes and no owners.

    Raises:
        ArchiveRefused: as :func:`check_archive`; the folder may then hold a part.
    """
    files = unpacked = 0
    with archive.open("rb") as packed:
        for tar, member in _members(packed, archive.stat().st_size, limits):
            target = destination.joinpath(*PurePosixPath(member.name).parts)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # a regular file
            with target.open("xb") as output:
                while piece := content.read(_COPY_BYTES):
                    output.write(piece)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
            files += 1
            unpacked += member.size
    return ArchiveFacts(files, unpacked)


class _SafeInfo(tarfile.TarInfo):
    """Refuses headers that tarfile would read whole into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if not 0 <= self.size <= _SIZE_MAX or (not self.isreg() and self.size > _HEADER_MAX):
            raise _refused(self.name, "has a header with a size no archive needs")
        return super()._proc_member(tar)  # type: ignore[misc]


def _members(
    archive: IO[bytes], packed_bytes: int, limits: ArchiveLimits
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the checked files and folders of a tar.gz, in order."""
    files: set[str] = set()
    folders: set[str] = set()
    unpacked = count = 0
    try:
        with (
            gzip.GzipFile(fileobj=archive, mode="rb") as plain,  # a temporary file says "w+b"
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_SafeInfo) as tar,
        ):
            for member in tar:
                count += 1
                unpacked += member.size
                if count > limits.files:
                    raise _refused(member.name, f"is one of more than {limits.files} entries")
                if unpacked > limits.unpacked_bytes:
                    raise _refused(
                        member.name, f"unpacks to more than {limits.unpacked_bytes} bytes in all"
                    )
                if packed_bytes and unpacked > limits.ratio * max(packed_bytes, 4096):
                    raise _refused(member.name, "is packed too densely to be a configuration")
                path = _checked_path(member, limits)
                if path is None:
                    continue
                folded = PurePosixPath(str(path).casefold())
                above = {str(folder) for folder in folded.parents if folder.parts}
                if member.isdir():
                    above.add(str(folded))
                elif str(folded) in files | folders:
                    raise _refused(member.name, "occurs twice, or differs only in case")
                else:
                    files.add(str(folded))
                if above & files:
                    raise _refused(member.name, "lies below a file")
                folders |= above
                yield tar, member
            # The checksum comes last, after the padding.
            while padding := len(plain.read(_COPY_BYTES)):
                unpacked += padding
                if unpacked > limits.unpacked_bytes:
                    raise _refused("", "is followed by more than padding")
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, ArchiveRefused):
            raise
        raise ArchiveRefused(
            "This is not a complete tar.gz archive; pack the folder with `tar -czf`.",
            field="archive",
        ) from error


def _checked_path(member: tarfile.TarInfo, limits: ArchiveLimits) -> PurePosixPath | None:
    """Return the entry's path inside the folder, None for the folder itself."""
    name = member.name
    if "\\" in name or not _NAME.fullmatch(name):
        raise _refused(name, "has characters that no file name should have")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _refused(name, "points outside the archive")
    if member.issym() or member.islnk():
        raise _refused(name, "is a link; pack the file it points to (tar -h)")
    if not member.isfile() and not member.isdir():
        raise _refused(name, "is neither a file nor a folder")
    if ".terraform" in path.parts:
        raise _refused(name, "lies in .terraform, which is made anew; leave it out")
    if len(name) > limits.path_length or any(len(part.encode()) > 255 for part in path.parts):
        raise _refused(name, f"has a path longer than {limits.path_length} characters")
    return path if path.parts else None


def _refused(name: str, reason: str) -> ArchiveRefused:
    shown = name[:200].encode(errors="replace").decode()
    return ArchiveRefused(f"“{shown}” {reason}.", field="archive", entry=shown)
