"""Which devices are there: once each, whoever shows them, and where they sit."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compute import fake_torch
from nexus.compute.devices import discovery, pci
from nexus.compute.devices.accelerator import Accelerator
from nexus.compute.devices.discovery import Found


def test_the_processor_is_there_and_what_is_missing_has_a_reason() -> None:
    found = discovery.discover()
    assert found[0].kind == "cpu" and not found[0].absent and found[0].memory > 0
    for library in ("torch", "cupy"):
        rows = [device for device in found if device.backend == library or library in device.also]
        assert rows and all(device.absent or device.name for device in rows)


def test_a_library_that_does_not_work_is_an_absent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(library: object) -> list[Found]:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(discovery, "DRIVERS", ("/dev/null",))
    (row,) = discovery.through_library("json", broken)
    assert row.absent == "json does not work here: libcuda.so.1: cannot open shared object file"
    (row,) = discovery.through_library("no_such_library", broken)
    assert row.absent == "the library no_such_library is not installed"
    monkeypatch.setattr(discovery, "DRIVERS", ("/dev/no_such_driver",))
    (row,) = discovery.through_library("json", broken)
    assert row.absent == "no NVIDIA or AMD driver is loaded"


def test_one_device_through_several_back_ends_is_one() -> None:
    found = [Found("cpu", "cpu", "numpy")]
    discovery.merge(
        found,
        [Found("H200", "gpu", "torch", address="01"), Found("H200", "gpu", "torch", address="02")],
    )
    discovery.merge(
        found, [Found("h200", "gpu", "cupy", address="02"), Found("other", "gpu", "cupy", address="03")]
    )
    # Without addresses each of two rows with the same name is another device.
    discovery.merge(found, [Found("H200", "gpu", "wgpu"), Found("H200", "gpu", "wgpu")])
    assert [(row.name, row.address, row.also) for row in found[1:]] == [
        ("H200", "01", "wgpu"),
        ("H200", "02", "cupy, wgpu"),
        ("other", "03", ""),
    ]


def test_absent_devices_are_not_merged() -> None:
    found = [Found("CUDA or ROCm", "gpu", "torch", absent="not installed")]
    discovery.merge(found, [Found("CUDA or ROCm", "gpu", "cupy", absent="not installed")])
    assert len(found) == 2


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tree as the kernel builds it: a GPU on a card slot, and one behind a removable port."""
    inside = tmp_path / "devices/pci0000:00/0000:00:01.0/0000:01:00.0"
    port = tmp_path / "devices/pci0000:00/0000:00:07.0/0000:05:00.0"
    outside = port / "0000:06:01.0/0000:07:00.0"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (folder / "class").write_text("0x030200\n")
        (folder / "vendor").write_text("0x10de\n")
        (folder / "device").write_text("0x2335\n")
    (inside / "removable").write_text("fixed\n")
    (port / "removable").write_text("removable\n")
    listed = tmp_path / "bus/pci/devices"
    listed.mkdir(parents=True)
    for folder in (inside, outside):
        (listed / folder.name).symlink_to(folder)
    monkeypatch.setattr(pci, "DEVICES", str(listed))
    return str(listed)


def test_an_external_gpu_is_known_by_its_port(sysfs: str) -> None:
    assert pci.addresses(0x10DE, 0x2335) == sorted(os.listdir(sysfs))
    assert pci.bus_of("0000:01:00.0") == "pci"
    assert pci.bus_of("0000:07:00.0") == "external"
    assert pci.bus_of("0000:09:00.0") == pci.bus_of("") == ""
    assert pci.address_of(0, 0x18, 0) == "0000:18:00.0"


def adapter(name: str, backend: str = "Vulkan") -> Any:
    return SimpleNamespace(
        info={
            "device": name, "backend_type": backend, "adapter_type": "DiscreteGPU", "description": "driver 1",
            "vendor_id": 0x10DE, "device_id": 0x2335,
        },
        limits={"max-storage-buffer-binding-size": 1 << 30, "max-buffer-size": 1 << 30},
    )  # fmt: skip


def test_two_cards_of_one_model_are_two_devices(sysfs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [adapter("H200"), adapter("H200"), adapter("H200", "OpenGL")]
    monkeypatch.setattr(discovery, "wgpu_adapters", lambda: (shown, ""))
    monkeypatch.setattr(discovery, "loaded", lambda name: (None, "not installed"))
    rows = discovery.through_wgpu()
    assert [(row.address, row.bus, row.also) for row in rows] == [
        ("0000:01:00.0", "pci", "wgpu OpenGL"),
        ("0000:07:00.0", "external", ""),
    ]
    assert [device.address for device in discovery.usable_gpus(None)] == ["0000:01:00.0", "0000:07:00.0"]


def test_a_card_that_torch_has_is_not_used_through_wgpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [adapter("NVIDIA H200"), adapter("NVIDIA H200"), adapter("Radeon")]
    monkeypatch.setattr(discovery, "wgpu_adapters", lambda: (shown, ""))
    monkeypatch.setattr(
        discovery, "loaded", lambda name: (fake_torch, "") if name == "torch" else (None, "not installed")
    )
    devices = discovery.usable_gpus(None)
    assert [(device.name, isinstance(device, Accelerator)) for device in devices] == [
        ("gpu0", True), ("gpu1", True), ("gpu2", False),
    ]  # fmt: skip
    assert devices[0].address == "0000:18:00.0" and "H200" in devices[0].version
    assert "Radeon" in devices[2].version
