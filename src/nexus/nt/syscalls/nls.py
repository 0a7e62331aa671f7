"""Locales and national language support: NLS tables and the default languages."""

from __future__ import annotations

from nexus.abi.types import boolean, u16, u32, u64, uptr
from nexus.nt.errors import NtError
from nexus.nt.handles import release_unused
from nexus.nt.kernel import LOCALE_EN_US
from nexus.nt.mm.memory import ANYWHERE
from nexus.nt.mm.vad import PAGE_READONLY
from nexus.nt.status import Status
from nexus.nt.syscall import Out, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call


_SORT_KEYS, _CASE_MAP, _CODE_PAGE, _NORMALIZATION = 9, 10, 11, 12
_NORMALIZATION_FILES = {1: "normnfc", 2: "normnfd", 5: "normnfkc", 6: "normnfkd", 13: "normidna"}


def _map_table(call: Call, name: str) -> tuple[int, int]:
    """(address, size) of an NLS file mapped into the caller; NtError when the sysroot lacks it."""
    starter = call.kernel.starter
    if starter is None:
        raise NtError(Status.OBJECT_NAME_NOT_FOUND)
    section = starter.nls_table(name)
    try:
        region = section.map(call.process.space, 0, 0, 0, 0, PAGE_READONLY, ANYWHERE)
    finally:
        release_unused(section)
    return region.base, section.size


@syscall
def NtInitializeNlsFiles(call: Call, base: Out[uptr], locale: Out[u32], size: Out[u64] | None) -> None:
    """Map locale.nls and tell the default locale."""
    address, _ = _map_table(call, "locale.nls")
    base.write(address)
    locale.write(LOCALE_EN_US)
    if size is not None:  # the size without the locale table, which the file's header tells
        size.write(call.memory.u32(address + 16))


@syscall
def NtGetNlsSectionPtr(
    call: Call, kind: u32, number: u32, unused: uptr, base: Out[uptr], size: Out[uptr]
) -> None:
    """Map a table: sort keys, case map, code page or normalisation form."""
    if kind == _SORT_KEYS:
        name = "sortdefault" if not number else ""
    elif kind == _CASE_MAP:
        name = "l_intl" if not number else ""
    elif kind == _CODE_PAGE:
        name = f"c_{number:03d}"
    elif kind == _NORMALIZATION:
        name = _NORMALIZATION_FILES.get(number, "")
    else:
        raise NtError(Status.INVALID_PARAMETER_1)
    if not name:
        raise NtError(Status.INVALID_PARAMETER_1 if kind != _NORMALIZATION else Status.OBJECT_NAME_NOT_FOUND)
    address, length = _map_table(call, name + ".nls")
    base.write(address)
    size.write(length)


@syscall
def NtQueryDefaultLocale(call: Call, of_user: boolean, locale: Out[u32]) -> None:
    """The user's or the system's locale."""
    locale.write(call.kernel.user_locale if of_user else call.kernel.system_locale)


@syscall
def NtSetDefaultLocale(call: Call, of_user: boolean, locale: u32) -> None:
    """Change the user's or the system's locale for the whole machine."""
    if of_user:
        call.kernel.user_locale = locale
    else:
        call.kernel.system_locale = call.kernel.user_language = locale


@syscall
def NtQueryDefaultUILanguage(call: Call, language: Out[u16]) -> None:
    """The language of the user's interface."""
    language.write(call.kernel.user_language)


@syscall
def NtSetDefaultUILanguage(call: Call, language: u16) -> None:
    """Change the language of the user's interface."""
    call.kernel.user_language = language


@syscall
def NtQueryInstallUILanguage(call: Call, language: Out[u16]) -> None:
    """The language the system was installed in."""
    language.write(LOCALE_EN_US)
