"""GPUs by what their drivers tell: NVIDIA's through NVML (the library nvidia-ml-py), AMD's through sysfs.

A figure that a driver does not tell is None.
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

from nexus.compute.devices import pci

CARDS = "/sys/class/drm/card[0-9]*/device"
Row = dict[str, Any]


class Gpus:
    """All of them; `absent` says why NVIDIA's are not asked."""

    def __init__(self) -> None:
        self.nvml: Any = None
        self.absent = ""
        if importlib.util.find_spec("pynvml") is None:
            self.absent = "the library nvidia-ml-py is not installed"
            return
        nvml = importlib.import_module("pynvml")
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.absent = f"no NVIDIA driver: {error}"
            return
        self.nvml = nvml

    def sample(self) -> list[Row]:
        """One row for each GPU: utilisation 0 to 1, memory in bytes, watts, degrees Celsius."""
        rows = self.nvidia() if self.nvml is not None else []
        known = {row["address"] for row in rows}
        return rows + [row for row in amd() if row["address"] not in known]

    def nvidia(self) -> list[Row]:
        nvml, rows = self.nvml, []

        def told(question: Callable[[], Any]) -> Any:
            """An answer of the driver, or None: MIG devices and old ones do not tell everything."""
            try:
                return question()
            except nvml.NVMLError:
                return None

        for n in range(nvml.nvmlDeviceGetCount()):
            card = told(lambda n=n: nvml.nvmlDeviceGetHandleByIndex(n))  # type: ignore[misc]
            if card is None:
                continue
            memory = told(lambda card=card: nvml.nvmlDeviceGetMemoryInfo(card))  # type: ignore[misc]
            busy = told(lambda card=card: nvml.nvmlDeviceGetUtilizationRates(card).gpu)  # type: ignore[misc]
            power = told(lambda card=card: nvml.nvmlDeviceGetPowerUsage(card))  # type: ignore[misc]
            heat = told(
                lambda card=card: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)  # type: ignore[misc]
            )
            rows.append(
                row_of(
                    text(nvml.nvmlDeviceGetName(card)),
                    sysfs_address(text(nvml.nvmlDeviceGetPciInfo(card).busId)),
                    busy,
                    memory.used if memory else None,
                    memory.total if memory else None,
                    None if power is None else power / 1000,
                    heat,
                )
            )
        return rows


def row_of(
    name: str,
    address: str,
    busy: float | None,
    used: int | None,
    memory: int | None,
    watts: float | None,
    celsius: float | None,
) -> Row:
    return {
        "name": name,
        "kind": "gpu",
        "address": address,
        "utilisation_measured": None if busy is None else busy / 100,
        "memory_used": used,
        "memory": memory,
        "watts_measured": watts,
        "celsius_measured": celsius,
    }


def text(name: str | bytes) -> str:
    """Older releases of the library answer in bytes."""
    return name.decode() if isinstance(name, bytes) else name


def sysfs_address(bus_id: str) -> str:
    """NVML's `00000000:18:00.0` as the kernel writes it."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def amd() -> list[Row]:
    """Cards of the amdgpu driver, which has the file `gpu_busy_percent`."""
    rows = []
    for folder in sorted(glob.glob(CARDS)):
        busy = figure(folder, "gpu_busy_percent")
        if busy is None:
            continue
        sensors = next(iter(sorted(glob.glob(os.path.join(folder, "hwmon", "hwmon*")))), "")
        power = figure(sensors, "power1_average")
        power = figure(sensors, "power1_input") if power is None else power
        heat = figure(sensors, "temp1_input")
        name = pci.read(folder, "product_name") or f"AMD GPU {pci.read(folder, 'device')}"
        rows.append(
            row_of(
                name,
                os.path.basename(os.path.realpath(folder)),
                busy,
                figure(folder, "mem_info_vram_used"),
                figure(folder, "mem_info_vram_total"),
                None if power is None else power / 1e6,
                None if heat is None else heat / 1000,
            )
        )
    return rows


def figure(folder: str, name: str) -> int | None:
    """A number in a file of sysfs."""
    written = pci.read(folder, name) if folder else ""
    return int(written) if written.lstrip("-").isdecimal() else None
