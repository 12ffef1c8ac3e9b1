import gzip
import io
import tarfile
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.archives import ArchiveLimits, check_archive, extract
from tasks_app.exceptions import ArchiveRefused

LIMITS = ArchiveLimits(unpacked_bytes=1_000_000, files=20, ratio=50)


def pack(*entries, data=b"x"):
    """Entries are names, or TarInfo objects."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for entry in entries:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
            if info.isfile():
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            else:
                tar.addfile(info)
    return buffer.getvalue()


def check(content):
    return check_archive(io.BytesIO(content), len(content), LIMITS)


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_good_archive_is_counted_and_unpacked(tmp_path):
    script = tarfile.TarInfo("./scripts/run.sh")
    script.mode = 0o755
    content = pack("main.tf", "modules/a/main.tf", script, special("empty", tarfile.DIRTYPE))
    assert check(content).files == 3
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(content)
    target = tmp_path / "out"
    target.mkdir()
    extract(packed, target, LIMITS)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == [
        "main.tf",
        "modules/a/main.tf",
        "scripts/run.sh",
    ]
    assert (target / "scripts/run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "main.tf").stat().st_mode & 0o777 == 0o644
    assert (target / "empty").is_dir()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../evil.tf", "outside"),
        ("a/../../evil.tf", "outside"),
        ("/etc/passwd", "outside"),
        (".terraform/providers/x", ".terraform"),
        ("sub/.terraform/modules.json", ".terraform"),
        ("a\\b.tf", "characters"),
        ("a\nb.tf", "characters"),
        ("n" * 300, "longer"),
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (special("link", tarfile.SYMTYPE, "main.tf"), "link"),
        (special("hard", tarfile.LNKTYPE, "main.tf"), "link"),
        (special("null", tarfile.CHRTYPE), "neither"),
        (special("fifo.auto.tfvars", tarfile.FIFOTYPE), "neither"),
    ],
)
def test_what_is_refused_is_named(entry, reason):
    name = entry if isinstance(entry, str) else entry.name
    with pytest.raises(ArchiveRefused, match=reason) as refusal:
        check(pack("main.tf", entry))
    assert name[:50] in refusal.value.detail


@pytest.mark.parametrize("names", [("a.tf", "a.tf"), ("Main.tf", "main.tf")])
def test_duplicates_are_refused(names):
    with pytest.raises(ArchiveRefused, match="twice"):
        check(pack(*names))


def test_too_many_too_large_too_dense():
    with pytest.raises(ArchiveRefused, match="20 entries"):
        check(pack(*[f"{n}.tf" for n in range(21)]))
    with pytest.raises(ArchiveRefused, match="bytes in all"):
        check(pack("a.tf", data=b"\0" * 1_000_001))
    with pytest.raises(ArchiveRefused, match="densely"):
        check(pack("a.tf", data=b"\0" * 900_000))


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no tar"), pack("a")[:-20]],
    ids=["empty", "text", "gzip of text", "cut off"],  # gzip holds the time: no good for names
)
def test_what_is_no_complete_archive(content):
    with pytest.raises(ArchiveRefused):
        check(content)


@given(st.binary(max_size=400))
def test_garbage_is_refused_and_never_raises_anything_else(content):
    with pytest.raises(ArchiveRefused):
        check(gzip.compress(content))


def pax(name, **headers):
    info = tarfile.TarInfo(name)
    info.pax_headers = headers
    return info


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("A/b.tf", "a"), ("a", "A/b")])
def test_a_file_below_a_file_is_refused(names):
    with pytest.raises(ArchiveRefused):
        check(pack(*names))


def test_a_name_that_is_not_utf_8_is_refused_with_a_readable_sentence():
    content = gzip.compress(tarfile.TarInfo("a?b").tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    raw = bytearray(gzip.decompress(content))
    raw[1] = 0xFF
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with pytest.raises(ArchiveRefused) as refusal:
        check(gzip.compress(bytes(raw)))
    refusal.value.detail.encode()


def test_a_part_of_a_path_has_at_most_255_bytes():
    limits = ArchiveLimits(path_length=1000)
    content = pack("ü" * 200)
    with pytest.raises(ArchiveRefused, match="longer"):
        check_archive(io.BytesIO(content), len(content), limits)


def test_a_header_that_would_fill_the_memory_is_refused_unread():
    import tracemalloc

    content = pack(pax("main.tf", comment="x" * 100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefused, match="header"):
            check(content)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_negative_sizes_do_not_make_room():
    info = tarfile.TarInfo("main.tf")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 12  # base 256: -1
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with pytest.raises(ArchiveRefused):
        check(gzip.compress(bytes(raw) + bytes(1024)))


def test_every_flipped_bit_is_noticed_or_changes_nothing():
    content = pack("main.tf", "b.tf", data=b"resource " * 20)
    for place in range(10, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(ArchiveRefused):
            check(bytes(damaged))


@pytest.mark.parametrize("lost", [1, 4, 8, 9, 20])
def test_a_truncated_archive_is_refused(lost):
    with pytest.raises(ArchiveRefused):
        check(pack("main.tf")[:-lost])


def test_what_follows_the_archive_is_bounded():
    content = gzip.compress(gzip.decompress(pack("main.tf")) + bytes(2_000_000))
    with pytest.raises(ArchiveRefused):
        check(content)


def test_an_upload_spooled_to_a_file_opened_for_writing_is_read():
    with tempfile.SpooledTemporaryFile() as upload:
        upload.write(pack("main.tf"))
        upload.seek(0)
        assert check_archive(upload, 0, LIMITS).files == 1
