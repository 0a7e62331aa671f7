"""Where a GPU sits: its PCI address, and whether its bus makes it an external one.

The kernel marks devices behind a port that leads outside (Thunderbolt, USB4) with a file `removable` in the
device's folder of sysfs or in one above it (Documentation/ABI/testing/sysfs-devices-removable).
"""

from __future__ import annotations

import glob
import os

DEVICES = "/sys/bus/pci/devices"
DISPLAY = "0x03"
"""PCI base class of display controllers; `0x0302` are those without a display, as in servers."""


def address_of(domain: int, bus: int, device: int) -> str:
    """A PCI address as sysfs writes it; GPUs compute as function 0."""
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def addresses(vendor: int, device: int) -> list[str]:
    """Where display controllers with these PCI identifiers sit, in order."""
    found = []
    for folder in sorted(glob.glob(os.path.join(DEVICES, "*"))):
        if (
            read(folder, "class").startswith(DISPLAY)
            and number(folder, "vendor") == vendor
            and number(folder, "device") == device
        ):
            found.append(os.path.basename(folder))
    return found


def bus_of(address: str) -> str:
    """`external` behind a removable port, else `pci`; empty for a device that sysfs does not list."""
    folder = os.path.join(DEVICES, address)
    if not address or not os.path.exists(folder):
        return ""
    place, top = os.path.realpath(folder), os.path.realpath(os.path.join(DEVICES, "..", "..", ".."))
    while len(place) > len(top):
        if read(place, "removable") == "removable":
            return "external"
        place = os.path.dirname(place)
    return "pci"


def number(folder: str, name: str) -> int:
    text = read(folder, name)
    return int(text, 16) if text else -1


def read(folder: str, name: str) -> str:
    """A file of sysfs; empty when it is not there."""
    try:
        with open(os.path.join(folder, name), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
