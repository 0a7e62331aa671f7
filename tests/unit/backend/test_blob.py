"""Blobs, the linker, the cache folder, and the check of the machine code."""

from __future__ import annotations

import ctypes
import os

import pytest

from nexus.backend import blob, cache
from nexus.backend.blob import Blob, DamagedBlob
from nexus.backend.interp import build, engine
from nexus.backend.link import link
from nexus.backend.llvm.compile import compile_object
from nexus.backend.llvm.expand import declarations
from nexus.base.errors import NexusError

MODULE = """
@table = private constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
@counter = dso_local global i64 5
define dso_local i64 @pick(i64 %n) {
  %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %n
  %v = load i64, ptr %p
  ret i64 %v
}
define dso_local i64 @count() {
  %v = load i64, ptr @counter
  %w = add i64 %v, 1
  store i64 %w, ptr @counter
  ret i64 %w
}
"""


@pytest.fixture(scope="module")
def packed() -> bytes:
    return blob.pack("a.blob", link(compile_object(MODULE)))


def test_a_blob_runs_from_its_file(packed: bytes, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "a.blob")
    cache.write(path, packed)
    loaded = Blob(path)
    pick = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(loaded.symbols["pick"])
    count = ctypes.CFUNCTYPE(ctypes.c_uint64)(loaded.symbols["count"])
    assert [pick(n) for n in range(4)] == [10, 20, 30, 40]
    assert [count(), count()] == [6, 7]
    another = Blob(path)
    again = ctypes.CFUNCTYPE(ctypes.c_uint64)(another.symbols["count"])
    assert again() == 6, "what a process writes does not reach the file"


def test_damage_is_noticed(packed: bytes, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "a.blob")
    middle = len(packed) - 100
    for wrong in (
        b"",
        packed[:20],
        packed[:-1],
        packed[:-4096],
        b"\0" + packed[1:],
        packed[:middle] + b"\xcc" + packed[middle + 1 :],
    ):
        with open(path, "wb") as file:
            file.write(wrong)
        with pytest.raises(DamagedBlob):
            Blob(path)


def test_a_blob_cannot_take_the_place_of_another(packed: bytes, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "b.blob")
    cache.write(path, packed)
    with pytest.raises(DamagedBlob):
        Blob(path)


def test_code_that_needs_something_outside_is_refused() -> None:
    with pytest.raises(NexusError, match="elsewhere"):
        link(
            compile_object(
                "declare i64 @elsewhere()\ndefine i64 @f() {\n %v = call i64 @elsewhere()\n ret i64 %v\n}"
            )
        )


def test_the_interpreter_is_built_again_when_its_file_is_damaged(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tmp_path)
    path = os.path.join(cache.folder(base), f"interp-{engine.key()}.blob")
    with open(path, "wb") as file:
        file.write(b"nonsense")
    built = []

    def fake_build(target: str) -> None:
        built.append(target)
        good = os.path.join(cache.folder(), f"interp-{engine.key()}.blob")
        with open(good, "rb") as source:
            cache.write(target, source.read())

    engine.load()  # the good one, in the common cache
    monkeypatch.setattr(engine, "_build", fake_build)
    assert engine.load(base).symbols
    assert built == [path]


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: object) -> None:
    path = cache.folder(str(tmp_path))
    assert os.stat(path).st_mode & 0o777 == 0o700
    os.chmod(path, 0o777)
    with pytest.raises(NexusError, match="cannot be trusted"):
        cache.folder(str(tmp_path))


def test_a_failed_write_leaves_nothing(tmp_path: object) -> None:
    with pytest.raises(TypeError):
        cache.write(os.path.join(str(tmp_path), "x"), None)  # type: ignore[arg-type]
    assert os.listdir(str(tmp_path)) == []


def test_the_check_finds_a_handler_that_changes_r12() -> None:
    harmless = bytes.fromhex("4154 4989c5 415c 41ffe0")  # push r12; mov r13, rax; pop r12; jmp r8
    assert build.violations(harmless) == []
    for planted in ("4989c4", "41bc00000000", "4d31e4", "4983c408", "4d87e5"):  # mov, mov, xor, add, xchg
        assert len(build.violations(bytes.fromhex("90" + planted + "90"))) == 1, planted


def test_intrinsics_are_declared_from_their_calls() -> None:
    text = (
        "%a = call i8 @llvm.ctpop.i8(i8 %x)\n"
        "%b = call <4 x i32> @llvm.umin.v4i32(<4 x i32> %x, <4 x i32> <i32 1, i32 2, i32 3, i32 4>)\n"
        "%c = call { i64, i1 } @llvm.uadd.with.overflow.i64(i64 %x, i64 1)\n"
        "%d = tail call i8 @llvm.ctpop.i8(i8 7)\n"
    )
    assert declarations(text).splitlines() == [
        "declare i8 @llvm.ctpop.i8(i8)",
        "declare <4 x i32> @llvm.umin.v4i32(<4 x i32>, <4 x i32>)",
        "declare { i64, i1 } @llvm.uadd.with.overflow.i64(i64, i64)",
    ]
