"""Whether a file is a program that can run here, decided from its headers before anything is started."""

from __future__ import annotations

from nexus.base.errors import BadImage
from nexus.loader import pe
from nexus.loader.directories import has_hybrid_code
from nexus.loader.formats import MACHINES, SUBSYSTEMS, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.loader.pe import Data, Image

X64_HINT = "look for the 64-bit x86 (x64, amd64, win_amd64) build of the same program"

_HINTS = {
    "ELF": "it is a program for Linux: start it without nexus",
    "script": "run it with its interpreter, without nexus",
    "archive": "unpack it and run an .exe inside",
    "compressed": "unpack it and run an .exe inside",
    "MSI": "installers are not supported: look for a zip or a package with the .exe inside",
    "text": "give the .exe; for a batch file run cmd.exe with /c and its name",
}


def check_program(data: Data, name: str = "the file") -> Image:
    """The image of a 64-bit console program; BadImage says what the file is instead, and what to do."""
    if len(data) < 2 or bytes(data[:2]) != b"MZ":
        what = describe(data)
        hint = next((text for word, text in _HINTS.items() if word in what), "give a Windows .exe")
        raise BadImage(f"{name} is not a Windows program but {what}", hint=hint)
    try:
        image = pe.parse(data)
        hybrid = has_hybrid_code(image)
    except pe.NotPortableExecutable as error:
        hint = error.hint
        if error.kind in ("dos", "win16"):
            hint = "16-bit programs cannot run here: use a DOS emulator, or a 64-bit build of the program"
        raise pe.NotPortableExecutable(error.kind, f"{name} cannot run: {error}", hint=hint) from None
    _check_machine(image, hybrid, name)
    _check_kind(image, name)
    return image


def _check_machine(image: Image, hybrid: bool, name: str) -> None:
    if image.machine == pe.MACHINE_AMD64 and not hybrid and image.is_64bit:
        return
    if image.machine == pe.MACHINE_AMD64 and hybrid:
        machine = "ARM64EC"
    elif image.machine == pe.MACHINE_AMD64:
        raise pe.contradictory("a 64-bit machine with a 32-bit optional header")
    else:
        machine = MACHINES.get(image.machine, f"an unknown machine ({image.machine:#06x})")
    if image.is_dotnet:
        _refuse_dotnet(name)
    raise BadImage(f"{name} is a program for {machine}; 64-bit x86 programs run here", hint=X64_HINT)


def _refuse_dotnet(name: str) -> None:
    raise BadImage(
        f"{name} is a .NET program: it holds code for the .NET runtime, not for a processor",
        hint="run it with `dotnet` or `mono`, or look for a NativeAOT (self-contained native) build",
    )


def _check_kind(image: Image, name: str) -> None:
    if image.is_dotnet:
        _refuse_dotnet(name)
    if image.is_dll:
        raise BadImage(
            f"{name} is a DLL, which cannot be started by itself",
            hint="give the program that uses it; rundll32.exe NAME.dll,FUNCTION calls one of its functions",
        )
    if image.subsystem == pe.SUBSYSTEM_NATIVE:
        raise BadImage(
            f"{name} is a driver (native subsystem), part of a Windows kernel",
            hint="drivers cannot run here; give the console program that belongs to it",
        )
    if image.subsystem == pe.SUBSYSTEM_GUI:
        raise BadImage(
            f"{name} is a program with windows (GUI subsystem), and windows cannot be shown yet",
            hint="many packages bring a console program of the same name beside it",
        )
    if image.subsystem != pe.SUBSYSTEM_CONSOLE:
        kind = SUBSYSTEMS.get(image.subsystem, f"subsystem {image.subsystem}")
        raise BadImage(f"{name} is a {kind} program", hint="give a Windows console program")
    if not image.entry_point:
        raise pe.contradictory("a program without an entry point")
