"""Starting a program in a new process of this machine."""

from __future__ import annotations

from nexus.base.errors import BadImage
from nexus.nt.access import FILE_EXECUTE, FILE_READ_DATA, SYNCHRONIZE
from nexus.nt.errors import NtError
from nexus.nt.handles import INHERIT, HandleTable, release_unused
from nexus.nt.io.file import OpenRequest
from nexus.nt.io.file_open import VolumeDevice
from nexus.nt.mm.section import SEC_IMAGE, Section, image_section, source_of
from nexus.nt.mm.vad import PAGE_EXECUTE_READ
from nexus.nt.ps.peb import Parameters
from nexus.nt.ps.process import Process
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.ps.debug import DebugObject
    from nexus.nt.ps.job import JobObject
    from nexus.nt.ps.thread import Thread
    from nexus.nt.se.token import Token

_SHARE_READ_DELETE = 0x5
_FILE_OPEN = 1
_SYNCHRONOUS_NON_DIRECTORY = 0x60
_STANDARD_HANDLES = ("hStdInput", "hStdOutput", "hStdError")


class Request:
    """What NtCreateUserProcess was asked for: NT path of the image, address of the parameters, handle
    inheritance, the jobs to start in, the debugger's object, the token.
    """

    __slots__ = ("debug", "image", "inherit", "jobs", "only", "parameters", "parent", "token")

    def __init__(self, parameters: int) -> None:
        self.parameters = parameters
        self.image = ""
        self.parent: Process | None = None
        self.inherit = False
        self.only: set[int] | None = None
        self.jobs: list[JobObject] = []
        self.debug: DebugObject | None = None
        self.token: Token | None = None


def spawn(call: Call, request: Request) -> tuple[Process, Thread, bytes]:
    """A new process with its first thread, not yet ready, and its SECTION_IMAGE_INFORMATION."""
    kernel = call.kernel
    if kernel.starter is None:
        raise call.unsupported(
            "starting processes in a machine without a starter", "src/nexus/nt/ps/spawn.py"
        )
    if len(kernel.processes) >= kernel.process_limit:
        kernel.process_limit_hit = True
        raise NtError(Status.INSUFFICIENT_RESOURCES)
    parameters = Parameters.read(call.memory, request.parameters)
    program = open_program(call, request.image)
    parent = request.parent or call.process
    window = kernel.make_window()
    child = Process(kernel, window, kernel.make_vcpu(window), parent)
    if request.token is not None:
        child.token = request.token.duplicate(request.token.kind, request.token.impersonation_level, False)
    try:
        if request.inherit:
            child.handles.inherit_from(parent.handles, request.only)
        _pass_standard_handles(parent.handles, child.handles, parameters)
        thread = kernel.starter.start(child, program, parameters)
        assert program.image is not None
        return child, thread, program.image.information()
    except BaseException:
        child.terminate(Status.UNSUCCESSFUL)
        raise
    finally:
        release_unused(program)


def open_program(call: Call, path: str) -> Section:
    """The image section of an executable file."""
    found = call.kernel.namespace.parse(path)
    device = found.object
    if not isinstance(device, VolumeDevice):
        raise NtError(Status.OBJECT_TYPE_MISMATCH)
    wanted = FILE_EXECUTE | FILE_READ_DATA | SYNCHRONIZE
    request = OpenRequest(
        call, found.rest, wanted, _SHARE_READ_DELETE, _FILE_OPEN, _SYNCHRONOUS_NON_DIRECTORY
    )
    file, _ = device.open(request)
    try:
        section = image_section(source_of(file), PAGE_EXECUTE_READ, SEC_IMAGE)
    except BadImage as error:
        raise NtError(Status.INVALID_IMAGE_FORMAT) from error
    finally:
        release_unused(file)
    return section


def _pass_standard_handles(parent: HandleTable, child: HandleTable, parameters: Parameters) -> None:
    """The three standard handles reach the child under their numbers even when nothing else is inherited."""
    for name in _STANDARD_HANDLES:
        handle = parameters.numbers.get(name, 0)
        if not handle or child.holds(handle):
            continue
        try:
            entry = parent.entry(handle)
        except NtError:
            parameters.numbers[name] = 0
            continue
        child.place(handle & ~3, entry, INHERIT)
