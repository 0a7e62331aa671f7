"""What computes on this machine. A missing library or driver is an absent device with the reason."""

from __future__ import annotations

import glob
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nexus.compute.devices.base import Device


@dataclass
class Found:
    """A device, or a way to one that leads nowhere: then `absent` says why. `memory` in bytes, 0 if not
    told.
    """

    name: str
    kind: str
    backend: str
    bus: str = ""
    memory: int = 0
    driver: str = ""
    absent: str = ""
    also: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def discover() -> list[Found]:
    """Every device once: the processor, then GPUs by back-end."""
    found = [processor()]
    for search in (through_torch, through_cupy, through_wgpu):
        for device in search():
            merge(found, device)
    return found


def merge(found: list[Found], device: Found) -> None:
    """Add a device unless another back-end showed it already; then note the back-end there."""
    for known in found:
        same_name = known.kind == device.kind == "gpu" and known.name.lower() == device.name.lower()
        same_bus = not known.bus or not device.bus or known.bus == device.bus
        if (
            not known.absent
            and not device.absent
            and same_name
            and same_bus
            and known.backend != device.backend
        ):
            known.also = f"{known.also}, {device.backend}" if known.also else device.backend
            return
    found.append(device)


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
        bus = f"{getattr(about, 'pci_bus_id', 0):02x}"
        version = torch.version.hip or torch.version.cuda
        rows.append(
            Found(
                about.name, "gpu", "torch", bus, about.total_memory, f"torch {torch.__version__}, {version}"
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
        name, bus = about["name"].decode(), f"{about['pciBusID']:02x}"
        driver = f"driver {cupy.cuda.runtime.driverGetVersion()}"
        rows.append(Found(name, "gpu", "cupy", bus, about["totalGlobalMem"], driver))
    return rows


def through_library(name: str, search: Callable[[Any], list[Found]]) -> list[Found]:
    if importlib.util.find_spec(name) is None:
        return [Found("CUDA or ROCm", "gpu", name, absent=f"the library {name} is not installed")]
    try:
        return search(importlib.import_module(name))
    except (ImportError, OSError, RuntimeError) as error:
        return [Found("CUDA or ROCm", "gpu", name, absent=f"{name} does not work here: {error}")]


def through_wgpu() -> list[Found]:
    adapters, why = wgpu_adapters()
    if why:
        return [Found("Vulkan, Metal or D3D12", "gpu", "wgpu", absent=why)]
    rows: list[Found] = []
    for adapter in adapters:
        info = adapter.info
        bus = {"CPU": "software", "IntegratedGPU": "integrated", "DiscreteGPU": pci_kind()}.get(
            info["adapter_type"], ""
        )
        row = Found(info["device"], "gpu", f"wgpu {info['backend_type']}", bus, 0, info["description"])
        merge(rows, row)
    return rows


def wgpu_adapters() -> tuple[list[Any], str]:
    """Adapters by wgpu, or why there are none."""
    if importlib.util.find_spec("wgpu") is None:
        return [], "the library wgpu is not installed"
    try:
        import wgpu

        adapters = list(wgpu.gpu.enumerate_adapters_sync())
    except (ImportError, OSError, RuntimeError) as error:
        return [], f"wgpu does not work here: {error}"
    if not adapters:
        return [], "no Vulkan driver (for a software one install mesa-vulkan-drivers)"
    return adapters, ""


def pci_kind() -> str:
    """`thunderbolt` when a display controller sits behind a removable port, else `pci`."""
    for path in glob.glob("/sys/bus/pci/devices/*/class"):
        with open(path, encoding="ascii") as file:
            display = file.read().startswith("0x03")
        removable = os.path.join(os.path.dirname(path), "removable")
        if display and os.path.exists(removable):
            with open(removable, encoding="ascii") as file:
                if file.read().strip() == "removable":
                    return "thunderbolt"
    return "pci"


def usable_gpus(memory: int | None) -> list[Device]:
    """Devices the engine computes on, one for each adapter (Vulkan before GL)."""
    adapters, why = wgpu_adapters()
    if why:
        return []
    from nexus.compute.devices.gpu import GpuDevice

    devices: dict[str, Device] = {}
    for adapter in sorted(adapters, key=lambda adapter: adapter.info["backend_type"] != "Vulkan"):
        name = adapter.info["device"]
        if name not in devices:
            devices[name] = GpuDevice(adapter, len(devices), memory)
    return list(devices.values())
