"""What `nexus compute top` and its page tell, with drivers that are stand-ins."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compute.rig import Array, Scripted
from nexus.cli import compute as command
from nexus.compute.job import Job
from nexus.compute.monitor import gpus, live, page
from nexus.compute.monitor.machine import achieved
from nexus.compute.monitor.top import as_text
from nexus.compute.scheduler import Run


def test_top_samples_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["top", "--json", "--count", "1"]) == 0
    row = json.loads(capsys.readouterr().out)
    processor = row["devices"][0]
    assert processor["kind"] == "cpu" and 0.0 <= processor["utilisation_measured"] <= 1.0
    assert 0 < processor["memory_used"] < processor["memory"]


def test_a_job_of_a_process_that_ended_is_forgotten(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_CACHE", f"{tmp_path}/cache")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = os.path.join(f"{tmp_path}/cache", "compute", "live")
    assert live.jobs() == []
    for pid in (ended.pid, os.getpid()):
        with open(os.path.join(folder, str(pid)), "w") as file:
            json.dump({"pid": pid}, file)
    assert live.jobs() == [{"pid": os.getpid()}]
    assert os.listdir(folder) == [str(os.getpid())]


class Refusal(Exception):
    pass


def nvml(**other: Any) -> Any:
    """NVML with an H200 whose MIG mode hides its utilisation."""

    def refused(card: object) -> None:
        raise Refusal("not supported")

    answers: dict[str, Any] = {
        "NVMLError": Refusal,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda n: "card",
        "nvmlDeviceGetName": lambda card: b"NVIDIA H200",
        "nvmlDeviceGetPciInfo": lambda card: SimpleNamespace(busId="00000000:18:00.0"),
        "nvmlDeviceGetUtilizationRates": refused,
        "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(used=1 << 30, total=1 << 37),
        "nvmlDeviceGetPowerUsage": lambda card: 341_500,
        "nvmlDeviceGetTemperature": lambda card, sensor: 47,
    }
    return SimpleNamespace(**{**answers, **other})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(gpus, "CARDS", "/nowhere/card*")

    def put(library: Any) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", library)

    yield put


def test_nvidia_gpus_in_units_of_the_report(installed: Any) -> None:
    installed(nvml())
    assert gpus.Gpus().sample() == [
        {
            "name": "NVIDIA H200", "kind": "gpu", "address": "0000:18:00.0", "utilisation_measured": None,
            "memory_used": 1 << 30, "memory": 1 << 37, "watts_measured": 341.5, "celsius_measured": 47,
        }
    ]  # fmt: skip
    installed(nvml(nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(gpu=83)))
    assert gpus.Gpus().sample()[0]["utilisation_measured"] == 0.83


def test_a_missing_nvidia_driver_is_a_reason(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise Refusal("NVML Shared Library Not Found")

    installed(nvml(nvmlInit=fails))
    found = gpus.Gpus()
    assert found.absent == "no NVIDIA driver: NVML Shared Library Not Found" and found.sample() == []
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name: None)
    assert gpus.Gpus().absent == "the library nvidia-ml-py is not installed"


def test_amd_gpus_by_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "devices/0000:03:00.0"
    sensors = place / "hwmon/hwmon4"
    sensors.mkdir(parents=True)
    for name, value in (("gpu_busy_percent", 61), ("mem_info_vram_used", 5), ("mem_info_vram_total", 9)):
        (place / name).write_text(f"{value}\n")
    (place / "device").write_text("0x740f\n")
    (sensors / "power1_average").write_text("212000000\n")
    (sensors / "temp1_input").write_text("58000\n")
    for number in (0, 1):
        (tmp_path / f"class/card{number}").mkdir(parents=True)
    (tmp_path / "class/card0/device").symlink_to(place)
    monkeypatch.setattr(gpus, "CARDS", f"{tmp_path}/class/card[0-9]*/device")
    (row,) = gpus.amd()
    assert row["name"] == "AMD GPU 0x740f" and row["address"] == "0000:03:00.0"
    assert (row["utilisation_measured"], row["memory_used"], row["memory"]) == (0.61, 5, 9)
    assert (row["watts_measured"], row["celsius_measured"]) == (212.0, 58.0)


def test_a_running_job_is_told_with_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    monkeypatch.setattr(live, "EVERY", 0.0)
    seen: list[dict[str, Any]] = []

    class Watched(Scripted):
        address = "0000:18:00.0"

        def run(self, job: Job, start: int, stop: int) -> Array | None:
            seen.extend(live.jobs())
            return super().run(job, start, stop)

    x = np.arange(2000.0)
    job = Job("map", 2000, (x,), np.zeros(2000), {"function": np.sqrt})
    Run(job, [Watched("one"), Watched("two")], [1.0, 1.0]).run()
    assert np.array_equal(job.out, np.sqrt(x))
    assert live.jobs() == []
    row = seen[-1]
    assert row["pid"] == os.getpid() and row["job"] == "map" and row["precision"] == "fp32"
    assert {part["name"] for part in row["devices"]} == {"one", "two"} and 0.0 < row["done"] < 1.0
    rate = achieved({"address": "0000:18:00.0"}, [row])
    assert rate == sum(part["flop_per_second_measured"] for part in row["devices"]) > 0.0
    assert achieved({"address": ""}, [row]) == 0.0


def test_what_a_driver_does_not_tell_is_a_dash() -> None:
    device = {
        "name": "NVIDIA H200", "utilisation_measured": None, "memory_used": 1 << 30, "memory": 1 << 37,
        "watts_measured": 300.0, "celsius_measured": None, "flop_per_second_measured": 7.5e14,
    }  # fmt: skip
    part = {"name": "gpu0", "flop_per_second_measured": 7.5e14}
    job = {"pid": 7, "job": "matmul", "precision": "bf16", "done": 0.5, "devices": [part]}
    first, second = as_text({"devices": [device], "jobs": [job]}).splitlines()
    words = "NVIDIA H200 - % 1.0 of 128.0 GiB 300.0 W - C 750000.0 GFLOP/s"
    assert " ".join(first.split()) == words
    assert second == "  process 7: matmul bf16 50 %  gpu0 750000.0 GFLOP/s (measured)"


# The page.


@pytest.fixture
def server() -> Iterator[page.Server]:
    samples = page.Samples()
    for n in range(3):
        samples.add({"time": float(n), "devices": [], "jobs": []})
    made = page.Server(samples)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def get(server: page.Server, path: str, host: str = "") -> tuple[int, Any, str]:
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    link.request("GET", path, headers={"Host": host} if host else {})
    answer = link.getresponse()
    got = answer.status, answer.headers, answer.read().decode()
    link.close()
    return got


def test_the_page_needs_its_token_and_its_name(server: page.Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    right = f"token={server.token}"
    assert get(server, "/")[0] == get(server, "/?token=x")[0] == get(server, "/samples")[0] == 403
    assert get(server, "/?token=%C3%A4")[0] == 403
    assert get(server, f"/?{right}", "other.example")[0] == 403
    assert get(server, f"/?{right}", f"localhost:{server.port}")[0] == 200
    assert get(server, f"/etc/passwd?{right}")[0] == 404
    assert get(server, f"/samples?{right}&after=-1")[0] == get(server, f"/samples?{right}&after=x")[0] == 400


def test_the_page_loads_nothing_from_anywhere(server: page.Server) -> None:
    status, headers, body = get(server, f"/?token={server.token}")
    assert status == 200 and server.token not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    nonce = headers["Content-Security-Policy"].split("'nonce-")[1].split("'")[0]
    assert body.count(f'nonce="{nonce}"') == 2 and "NONCE" not in body
    outside = [word for word in body.split('"') if "//" in word and word.startswith("http")]
    assert outside == ["http://www.w3.org/2000/svg"]
    assert " src=" not in body and " href=" not in body


def test_samples_are_json_lines_from_a_number_on(server: page.Server) -> None:
    _, _, body = get(server, f"/samples?token={server.token}&after=1")
    assert [json.loads(line)["number"] for line in body.splitlines()] == [2, 3]
    assert get(server, f"/samples?token={server.token}&after=3")[2] == ""


def test_the_command_serves_for_so_many_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["top", "--page", "--count", "1"]) == 0
    assert "http://127.0.0.1:" in capsys.readouterr().out
