"""The hooks of a machine: where they are in each process, and what happens when a thread gets there.

Names become addresses when a module is mapped, in every process, from the export table of the file (not from
the guest's memory, which the guest can change); forwarded exports are followed, and wait for their module if
that comes later. The vCPU stops at such an address, and at the return address of a call whose end somebody
awaits. A call has returned when its thread is at that address with the stack as the caller left it; nothing
in the guest is changed, so it cannot tell, and its exceptions unwind as ever.

Return addresses stay hooked, because setting a hook drops the translations of its page, until there are
too many of them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from nexus.base.errors import BadImage, GuestFault, NexusError
from nexus.loader import directories, pe
from nexus.nt.hook import Hook, HookCall, module_key
from nexus.nt.mm.section import Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus.loader.directories import Export
    from nexus.nt.kernel import Kernel
    from nexus.nt.ps.process import Module, Process
    from nexus.nt.ps.thread import Thread

MAXIMUM_RETURNS = 1 << 12  # return addresses that stay hooked in a process
MAXIMUM_NESTING = 1 << 16  # awaited calls of one thread
_FORWARDS = 16  # a chain of forwarded exports that is longer leads in a circle


class Exports:
    """The export table of a module."""

    __slots__ = ("base", "by_name", "by_ordinal", "image", "problem")

    def __init__(self, base: int, image: pe.Image) -> None:
        self.base = base
        self.image = image
        self.problem = ""
        rows: list[Export] = []
        try:
            rows = directories.exports(image)
        except BadImage as error:
            self.problem = f" ({error})"
        self.by_name = {row.name: row for row in rows if row.name}
        self.by_ordinal = {row.ordinal: row for row in rows}

    def find(self, name: str) -> Export | None:
        """The export of a name, or of `#ordinal`."""
        if name.startswith("#") and name[1:].isdecimal():
            return self.by_ordinal.get(int(name[1:]))
        return self.by_name.get(name)

    def is_code(self, export: Export) -> bool:
        section = self.image.section_at(export.address)
        return section is not None and bool(section.characteristics & pe.SCN_EXECUTE)


class Place:
    """A hooked address: the hooks there with the names they were found by."""

    __slots__ = ("entries", "module_base")

    def __init__(self, module_base: int) -> None:
        self.module_base = module_base
        self.entries: list[tuple[Hook, str, str]] = []  # hook, module, function


class ProcessHooks:
    """What is hooked in one process."""

    __slots__ = ("places", "process", "returns", "waiting")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.places: dict[int, Place] = {}
        self.returns: set[int] = set()
        self.waiting: dict[str, list[tuple[str, Hook, str, str]]] = {}  # by module: name there, entry


class Hooks:
    """All hooks of a kernel. `resolve_api_set` tells which DLL a name like api-ms-win-core-file-l1-1-0 is."""

    def __init__(self, kernel: Kernel, resolve_api_set: Callable[[str], str]) -> None:
        self._declared: list[Hook] = []
        self._processes: dict[Process, ProcessHooks] = {}
        self._resolve_api_set = resolve_api_set
        kernel.on_thread_end.append(self._thread_ended)
        kernel.on_process_end.append(self._process_ended)

    def add(self, hook: Hook, processes: Iterable[Process]) -> None:
        """From now on; `processes` are those that have modules already."""
        self._declared.append(hook)
        for process in processes:
            for module in process.modules:
                self._apply(hook, process, module, None)

    def snapshot_outside(self) -> Callable[[], None]:
        """See `nt/graph.py`: hooks of the processors that modules took away with them."""
        return self._hook_again

    def _hook_again(self) -> None:
        for process, mine in self._processes.items():
            for address in (*mine.places, *mine.returns):
                process.vcpu.hook(address)

    # finding ---------------------------------------------------------------------------------------

    def module_mapped(self, process: Process, module: Module) -> None:
        """Hook what is asked for in a module that has just been mapped."""
        exports: Exports | None = None
        for hook in self._declared:
            exports = self._apply(hook, process, module, exports)
        for name, hook, asked, function in self._of(process).waiting.pop(module_key(module.name), ()):
            exports = exports or exports_of(process, module)
            self._put(process, hook, exports, name, asked, function, 0)

    def module_unmapped(self, process: Process, base: int) -> None:
        """Other code may come to these addresses."""
        mine = self._of(process)
        for address in [at for at, place in mine.places.items() if place.module_base == base]:
            del mine.places[address]
            if address not in mine.returns:
                process.vcpu.unhook(address)

    def _of(self, process: Process) -> ProcessHooks:
        found = self._processes.get(process)
        if found is None:
            found = self._processes[process] = ProcessHooks(process)
        return found

    def _apply(self, hook: Hook, process: Process, module: Module, exports: Exports | None) -> Exports | None:
        key = module_key(module.name)
        if not fnmatchcase(key, hook.module):
            return exports
        exports = exports or exports_of(process, module)
        if hook.is_pattern:
            for name in exports.by_name:
                if fnmatchcase(name, hook.name):
                    self._put(process, hook, exports, name, key, name, 0)
        else:
            self._put(process, hook, exports, hook.name, key, hook.name, 0)
        return exports

    def _put(
        self, process: Process, hook: Hook, exports: Exports, name: str, asked: str, function: str, depth: int
    ) -> None:
        """Hook export `name`; `asked` and `function` are what the user called it."""
        strict = hook.required and not hook.is_pattern
        export = exports.find(name)
        if export is None:
            if strict and "*" not in hook.module and "?" not in hook.module:
                raise NexusError(f"cannot hook {hook.text}: there is no export {name}{exports.problem}")
        elif export.forward:
            self._follow(process, hook, export.forward, asked, function, depth + 1)
        elif exports.is_code(export):
            address = exports.base + export.address
            place = self._of(process).places.get(address)
            if place is None:
                place = self._of(process).places[address] = Place(exports.base)
                process.vcpu.hook(address)
            if all(entry[0] is not hook for entry in place.entries):
                place.entries.append((hook, asked, function))
        elif strict:
            raise NexusError(f"cannot hook {hook.text}: {name} is data, not a function")

    def _follow(
        self, process: Process, hook: Hook, forward: str, asked: str, function: str, depth: int
    ) -> None:
        target, _, name = forward.rpartition(".")
        key = module_key(self._resolve_api_set(module_key(target)))
        if depth > _FORWARDS:
            raise NexusError(f"cannot hook {hook.text}: it is forwarded in a circle, by way of {forward}")
        for module in process.modules:
            if module_key(module.name) == key:
                self._put(process, hook, exports_of(process, module), name, asked, function, depth)
                return
        self._of(process).waiting.setdefault(key, []).append((name, hook, asked, function))

    def has(self, process: Process, address: int) -> bool:
        """Whether an address is hooked in a process."""
        mine = self._of(process)
        return address in mine.places or address in mine.returns

    # running ---------------------------------------------------------------------------------------

    def reached(self, thread: Thread) -> None:
        """A thread is about to execute a hooked address: call whoever wants to know."""
        state = thread.state
        address, stack = state.rip, state.rsp
        for call in _take_returned(thread, address, stack):
            call.finish()
        place = self._of(thread.process).places.get(address)
        if place is not None:
            self._called(thread, place)
        if (state.rip, state.rsp) == (address, stack):
            thread.passed_hook = address, stack

    def _called(self, thread: Thread, place: Place) -> None:
        try:
            return_address = thread.process.window.u64(thread.state.rsp)
        except GuestFault:  # no call leads here with such a stack; the function will fault by itself
            return
        call = HookCall(thread, return_address)
        for hook, module, function in list(place.entries):
            call.module, call.name = module, function
            hook.invoke(call)
            if call.skipped:
                break
        if call.awaited:
            self._await(call)

    def _await(self, call: HookCall) -> None:
        thread, mine = call.thread, self._of(call.process)
        _drop_abandoned(thread, call)
        if len(thread.hook_calls) >= MAXIMUM_NESTING:
            raise NexusError(
                f"{len(thread.hook_calls)} calls of hooked functions have not returned in one thread"
            )
        thread.hook_calls.append(call)
        address = call.return_address
        if address not in mine.returns:
            if len(mine.returns) >= MAXIMUM_RETURNS:
                self._forget_returns(mine)
            mine.returns.add(address)
            call.process.vcpu.hook(address)

    def _forget_returns(self, mine: ProcessHooks) -> None:
        """Unhook the return addresses that nothing returns to now."""
        awaited = {call.return_address for thread in mine.process.threads for call in thread.hook_calls}
        for address in mine.returns - awaited:
            if address not in mine.places:
                mine.process.vcpu.unhook(address)
        mine.returns &= awaited

    def _process_ended(self, process: Process) -> None:
        self._processes.pop(process, None)

    def _thread_ended(self, thread: Thread) -> None:
        while thread.hook_calls:
            thread.hook_calls.pop().abandon()


def exports_of(process: Process, module: Module) -> Exports:
    """What a mapped module exports, from its file."""
    region = process.space.regions.at(module.base)
    section = region.backing if region is not None else None
    if not isinstance(section, Section) or section.image is None:
        raise RuntimeError(f"{module.name} at {module.base:#x} is not an image")
    return Exports(module.base, section.image.image)


def _take_returned(thread: Thread, address: int, stack: int) -> list[HookCall]:
    """The calls that have ended here, the innermost first: several, if one jumped to the next."""
    calls = thread.hook_calls
    ended = [c for c in reversed(calls) if c.return_address == address and c.stack + 8 == stack]
    for call in ended:
        calls.remove(call)
    return ended


def _drop_abandoned(thread: Thread, new: HookCall) -> None:
    """A call deeper in the stack than a new one, or at its place, was left without returning.

    At its place, a call of another function with the same return address has jumped to this one.
    """
    for call in [c for c in thread.hook_calls if c.stack_base == new.stack_base and c.stack <= new.stack]:
        jumped = call.stack == new.stack and call.return_address == new.return_address
        if not jumped or call.address == new.address:
            thread.hook_calls.remove(call)
            call.abandon()
