"""What computes on this machine. A missing library or driver is an absent device with the reason."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nexus.compute.devices import pci
from nexus.compute.devices.base import Device
from nexus.compute.errors import ComputeError

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What the drivers of CUDA, ROCm and CUDA under WSL leave in /dev: without one torch need not be loaded."""


@dataclass
class Found:
    """A device, or a way to one that leads nowhere: then `absent` says why.

    `bus` is software, integrated, pci or external; `memory` in bytes, 0 if not told; `also` the other
    back-ends that show the same device.
    """

    name: str
    kind: str
    backend: str
    bus: str = ""
    memory: int = 0
    driver: str = ""
    absent: str = ""
    also: str = ""
    address: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def same(self, other: Found) -> bool:
        """Whether both are one device, by PCI address, or by name where one of them has no address."""
        if self.absent or other.absent or self.backend == other.backend or self.kind != other.kind:
            return False
        if self.address and other.address:
            return self.address == other.address
        return self.name.lower() == other.name.lower()


def discover() -> list[Found]:
    """Every device once: the processor, then GPUs by back-end."""
    found = [processor()]
    for search in (through_torch, through_cupy, through_wgpu):
        merge(found, search())
    return found


def merge(found: list[Found], more: list[Found]) -> None:
    """Add what one back-end shows. Each device known from others takes up one row of it; of several with the
    same name and no address each takes its own.
    """
    taken: set[int] = set()
    for row in more:
        for n, known in enumerate(found):
            if n not in taken and known.same(row):
                taken.add(n)
                known.also = f"{known.also}, {row.backend}" if known.also else row.backend
                known.bus, known.address = known.bus or row.bus, known.address or row.address
                break
        else:
            found.append(row)
            taken.add(len(found) - 1)


def processor() -> Found:
    import numpy as np

    name = platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    return Found(
        f"{name}, {cores} cores", "cpu", "numpy", memory=memory, driver=f"numpy {np.__version__}, {blas()}"
    )


def blas() -> str:
    """The BLAS numpy was built with."""
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    row = built.get("Build Dependencies", {}).get("blas", {}) if isinstance(built, dict) else {}
    return f"{row.get('name', 'BLAS')} {row.get('version', '')}".strip()


def through_torch() -> list[Found]:
    return through_library("torch", torch_devices)


def torch_devices(torch: Any) -> list[Found]:
    if not torch.cuda.is_available():
        return [Found("CUDA or ROCm", "gpu", "torch", absent=f"torch {torch.__version__} sees no GPU")]
    rows = []
    for n in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(n)
        address = ""
        if hasattr(about, "pci_domain_id"):
            address = pci.address_of(about.pci_domain_id, about.pci_bus_id, about.pci_device_id)
        driver = f"torch {torch.__version__}, {torch.version.hip or torch.version.cuda}"
        rows.append(
            Found(
                about.name, "gpu", "torch", pci.bus_of(address), about.total_memory, driver, address=address
            )
        )
    return rows


def through_cupy() -> list[Found]:
    return through_library("cupy", cupy_devices)


def cupy_devices(cupy: Any) -> list[Found]:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return [Found("CUDA or ROCm", "gpu", "cupy", absent=str(error))]
    rows = []
    for n in range(count):
        about = cupy.cuda.runtime.getDeviceProperties(n)
        name = about["name"].decode()
        address = pci.address_of(about["pciDomainID"], about["pciBusID"], about["pciDeviceID"])
        driver = f"driver {cupy.cuda.runtime.driverGetVersion()}"
        memory, bus = about["totalGlobalMem"], pci.bus_of(address)
        rows.append(Found(name, "gpu", "cupy", bus, memory, driver, address=address))
    return rows


def through_library(name: str, search: Callable[[Any], list[Found]]) -> list[Found]:
    library, why = loaded(name)
    if why:
        return [Found("CUDA or ROCm", "gpu", name, absent=why)]
    try:
        return search(library)
    except (ImportError, OSError, RuntimeError) as error:
        return [Found("CUDA or ROCm", "gpu", name, absent=f"{name} does not work here: {error}")]


def loaded(name: str) -> tuple[Any, str]:
    """A library for CUDA and ROCm, or why it is of no use; it is loaded only where there is a driver."""
    if importlib.util.find_spec(name) is None:
        return None, f"the library {name} is not installed"
    if not any(os.path.exists(path) for path in DRIVERS):
        return None, "no NVIDIA or AMD driver is loaded"
    try:
        return importlib.import_module(name), ""
    except (ImportError, OSError, RuntimeError) as error:
        return None, f"{name} does not work here: {error}"


def through_wgpu() -> list[Found]:
    """The GPUs of the best back-end; what GL shows beside Vulkan are the same devices again."""
    adapters, why = wgpu_adapters()
    if why:
        return [Found("Vulkan, Metal or D3D12", "gpu", "wgpu", absent=why)]
    rows: list[Found] = []
    for backend in dict.fromkeys(adapter.info["backend_type"] for adapter in adapters):
        given: dict[str, int] = {}
        more = []
        for adapter in adapters:
            if adapter.info["backend_type"] == backend:
                more.append(wgpu_row(adapter, given))
        merge(rows, more)
    return rows


def wgpu_row(adapter: Any, given: dict[str, int]) -> Found:
    """An adapter; wgpu tells no PCI address, but of devices with the same identifiers each gets another."""
    info = adapter.info
    at = wgpu_address(info, given)
    bus = {"CPU": "software", "IntegratedGPU": "integrated", "DiscreteGPU": pci.bus_of(at) or "pci"}.get(
        info["adapter_type"], ""
    )
    name = info["device"]
    return Found(name, "gpu", f"wgpu {info['backend_type']}", bus, 0, info["description"], address=at)


def wgpu_address(info: Any, given: dict[str, int]) -> str:
    """The next PCI address with an adapter's identifiers; `given` counts those given out."""
    if info["adapter_type"] == "CPU":
        return ""
    vendor, device = int(info.get("vendor_id", 0)), int(info.get("device_id", 0))
    places = pci.addresses(vendor, device)
    key = f"{vendor:x}:{device:x}"
    given[key] = given.get(key, -1) + 1
    return places[given[key]] if given[key] < len(places) else ""


def wgpu_adapters() -> tuple[list[Any], str]:
    """Adapters by wgpu, Vulkan first, or why there are none."""
    if importlib.util.find_spec("wgpu") is None:
        return [], "the library wgpu is not installed"
    try:
        import wgpu

        adapters = list(wgpu.gpu.enumerate_adapters_sync())
    except (ImportError, OSError, RuntimeError) as error:
        return [], f"wgpu does not work here: {error}"
    if not adapters:
        return [], "no Vulkan driver (for a software one install mesa-vulkan-drivers)"
    return sorted(adapters, key=lambda adapter: adapter.info["backend_type"] != "Vulkan"), ""


def usable_gpus(memory: int | None, together: bool = False) -> list[Device]:
    """Devices the engine computes on: through torch, else cupy, and those that only wgpu shows. Those of one
    model are one device when `together`; raises ComputeError where no two of torch's are.
    """
    devices = accelerators(memory)
    found: list[Found] = []
    for device in devices:
        name = device.version.partition(",")[0]
        found.append(Found(name, "gpu", "library", address=device.address))
    if together:
        devices = as_groups(devices, memory)
    adapters, why = wgpu_adapters()
    if why:
        return devices
    from nexus.compute.devices.gpu import GpuDevice

    for backend in dict.fromkeys(adapter.info["backend_type"] for adapter in adapters):
        given: dict[str, int] = {}
        here = [adapter for adapter in adapters if adapter.info["backend_type"] == backend]
        rows = [wgpu_row(adapter, given) for adapter in here]
        known = list(found)
        merge(known, rows)
        for adapter, row in zip(here, rows, strict=True):
            if any(row is one for one in known):
                devices.append(GpuDevice(adapter, len(found), row.address, memory))
                found.append(row)
    return devices


def as_groups(devices: list[Device], memory: int | None) -> list[Device]:
    """Those of torch that are of one model as one device."""
    from nexus.compute.collective.device import GroupDevice
    from nexus.compute.collective.processes import Ranks
    from nexus.compute.devices.accelerator import Accelerator
    from nexus.compute.devices.torch_library import TorchLibrary

    models: dict[str, dict[Device, str]] = {}
    for device in devices:
        if isinstance(device, Accelerator) and isinstance(device.library, TorchLibrary):
            models.setdefault(device.family, {})[device] = str(device.library.device)
    groups = [members for members in models.values() if len(members) > 1]
    if not groups:
        raise ComputeError("torch shows no two GPUs of one model that could compute together")
    made = [GroupDevice(n, Ranks(list(members.values()), memory)) for n, members in enumerate(groups)]
    return [*made, *(device for device in devices if not any(device in members for members in groups))]


def accelerators(memory: int | None) -> list[Device]:
    """One device for each GPU of torch, or of cupy where torch is not of use."""
    from nexus.compute.devices.accelerator import Accelerator
    from nexus.compute.devices.library import ArrayLibrary

    libraries: list[ArrayLibrary] = []
    rows: list[Found] = []
    for name, search in (("torch", torch_devices), ("cupy", cupy_devices)):
        library, why = loaded(name)
        if why:
            continue
        try:
            rows = [row for row in search(library) if not row.absent]
        except (OSError, RuntimeError):
            # `nexus compute devices` tells the reason; here the device is simply not there.
            continue
        for number in range(len(rows)):
            if name == "torch":
                from nexus.compute.devices.torch_library import TorchLibrary

                libraries.append(TorchLibrary(library, f"cuda:{number}"))
            else:
                from nexus.compute.devices.cupy_library import CupyLibrary

                libraries.append(CupyLibrary(library, number))
        if rows:
            break
    return [
        Accelerator(library, n, row.address, memory)
        for n, (library, row) in enumerate(zip(libraries, rows, strict=True))
    ]
