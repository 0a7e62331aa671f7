"""Hands the units of a job to devices so that all of them end together, and survives losing one.

Each device has a thread for every chunk it may have under way, which asks for the next one; `chunks` says
how large it is. When nothing is left, an idle device repeats the chunks of one that is far behind. A lost
device's chunks go back to the others; a chunk that fails its check goes to another device, and the device
that computed it gets nothing more of this job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from nexus.compute.chunks import STALL_SECONDS, in_granules, late, next_size
from nexus.compute.devices.base import Device
from nexus.compute.errors import ComputeError, DeviceLost, OutOfDeviceMemory, WrongResult
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.monitor import live
from nexus.compute.report import DeviceReport, Report


class Chunk:
    """Units `start` to `stop`, given to a device at `began`; `lost_at` when a device before it lost them.

    One that is `returning` is nobody else's until it was put in its place and checked.
    """

    def __init__(self, start: int, stop: int, lost_at: float = 0.0) -> None:
        self.start = start
        self.stop = stop
        self.lost_at = lost_at
        self.began = 0.0
        self.expected = 0.0
        self.returning = False
        self.refused: set[Device] = set()

    def again(self, lost_at: float) -> Chunk:
        """The same units for another device."""
        copy = Chunk(self.start, self.stop, self.lost_at or lost_at)
        copy.refused = set(self.refused)
        return copy


class Run:
    """One job on some devices. `rates` are units per second; `equal` splits into equal parts, once."""

    def __init__(
        self, job: Job, devices: Sequence[Device], rates: Sequence[float], *, equal: bool = False
    ) -> None:
        self.job = job
        self.devices = list(devices)
        self.rates = dict(zip(self.devices, rates, strict=True))
        self.equal = equal
        self.next = job.first
        self.done = 0
        self.returned: list[Chunk] = []
        self.active: dict[Device, list[Chunk]] = {device: [] for device in self.devices}
        self.out: set[Device] = set()
        self.given: dict[Device, int] = {}
        self.losses: list[ComputeError] = []
        self.error: BaseException | None = None
        self.changed = threading.Condition()
        self.began = 0.0
        self.published = 0.0
        self.report = Report(job, [DeviceReport(device) for device in self.devices])
        self.rows = {row.device: row for row in self.report.devices}

    def run(self) -> Report:
        """Do the job. Raises what ended it; the devices are idle or abandoned then."""
        copied = {device: device.copied for device in self.devices}
        self.began = time.monotonic()
        if len(self.devices) == 1 and self.devices[0].depth == 1:
            self.serve(self.devices[0])
        else:
            threads = [
                threading.Thread(target=self.serve, args=(device,), name=device.name, daemon=True)
                for device in self.devices
            ]
            for thread in threads:
                thread.start()
            try:
                with self.changed:
                    self.changed.wait_for(self.over)
            except BaseException as error:
                # Ctrl-C: what is under way is given up; a device that cannot be finishes for nobody.
                self.error = error
                self.stop_all()
                live.withdraw()
                raise
            self.stop_all()
            for device, thread in zip(self.devices, threads, strict=True):
                if device not in self.out or not device.detached:
                    thread.join()
        self.report.seconds = time.monotonic() - self.began
        if self.published:
            live.withdraw()
        for device in self.devices:
            self.report.copied += device.copied - copied[device]
        if self.error is not None:
            raise self.error
        if self.done < self.job.units:
            notes = "; ".join(self.report.notes)
            kind = type(self.losses[-1]) if self.losses else WrongResult
            raise kind(
                f"no device is left for {self.job.units - self.done} of {self.job.units} units: {notes}"
            )
        return self.report

    def stop_all(self) -> None:
        """Give up what is still computed."""
        with self.changed:
            for device in self.devices:
                if self.active[device] and device.abandonable:
                    device.abandon()

    def over(self) -> bool:
        return self.error is not None or self.done >= self.job.units or len(self.out) == len(self.devices)

    def serve(self, device: Device) -> None:
        """The thread of one device, and of its first chunk; each further one it may hold has its own."""
        lanes = [
            threading.Thread(target=self.guarded, args=(device, self.lane), name=device.name, daemon=True)
            for _ in range(device.depth - 1)
        ]

        def begin(device: Device) -> None:
            device.prepare(self.job)
            for lane in lanes:
                lane.start()
            self.lane(device)

        self.guarded(device, begin)
        for lane in lanes:
            if lane.ident is not None:
                lane.join()
        if device not in self.out:
            self.guarded(device, lambda device: device.finish(self.job))

    def lane(self, device: Device) -> None:
        while (chunk := self.take(device)) is not None:
            self.compute(device, chunk)

    def guarded(self, device: Device, work: Callable[[Device], None]) -> None:
        """Do the work of a thread; what it raises is the loss of the device or ends the job."""
        try:
            work(device)
        except (DeviceLost, OutOfDeviceMemory) as error:
            self.lose(device, error)
        except BaseException as error:
            with self.changed:
                self.error = self.error or error
        finally:
            with self.changed:
                self.changed.notify_all()

    def compute(self, device: Device, chunk: Chunk) -> None:
        try:
            result = device.run(self.job, chunk.start, chunk.stop)
        except (DeviceLost, OutOfDeviceMemory):
            raise
        except BaseException:
            with self.changed:
                self.drop(device, chunk)
            raise
        with self.changed:
            if chunk not in self.active[device]:
                return
            chunk.returning = True
        try:
            wrong = self.put(device, chunk, result)
        except BaseException:
            with self.changed:
                chunk.returning = False
            raise
        with self.changed:
            chunk.returning = False
            row = self.rows[device]
            now = time.monotonic()
            if wrong:
                row.wrong += 1
                self.report.notes.append(f"{device.name}: wrong result refused: {wrong}")
                chunk.refused.add(device)
                self.give_up(device, now)
                device.refuted()
            else:
                self.drop(device, chunk)
                self.done += chunk.stop - chunk.start
                row.add(chunk.stop - chunk.start, chunk.began - self.began, now - self.began)
                self.rates[device] = row.units / row.busy
                if chunk.lost_at:
                    self.report.recoveries.append(now - chunk.lost_at)
                if now - max(self.began, self.published) > live.EVERY and self.done < self.job.units:
                    self.published = now
                    live.publish(self)
            self.changed.notify_all()

    def put(self, device: Device, chunk: Chunk, result: Array | None) -> str:
        """Put a result in its place; what is wrong with it."""
        if result is not None:
            self.job.out[chunk.start : chunk.stop] = result
        if self.job.check and not device.trusted:
            return self.job.check(chunk.start, chunk.stop, device.roundoff(self.job))
        return ""

    def take(self, device: Device) -> Chunk | None:
        """The next chunk for a device, waiting while others may still fail; None when there will be none."""
        with self.changed:
            while True:
                if self.over() or device in self.out:
                    return None
                chunk = self.returned_chunk(device) or self.fresh_chunk(device) or self.stalled_chunk(device)
                if chunk is not None:
                    chunk.began = time.monotonic()
                    chunk.expected = (self.held(device) + chunk.stop - chunk.start) / self.rates[device]
                    self.active[device].append(chunk)
                    return chunk
                self.changed.wait(timeout=STALL_SECONDS / 4)

    def held(self, device: Device) -> int:
        """Units that the device has under way."""
        return sum(chunk.stop - chunk.start for chunk in self.active[device])

    def returned_chunk(self, device: Device) -> Chunk | None:
        for n, chunk in enumerate(self.returned):
            if device not in chunk.refused:
                return self.returned.pop(n)
        return None

    def fresh_chunk(self, device: Device) -> Chunk | None:
        left = self.job.stop - self.next
        working = [other for other in self.devices if other not in self.out]
        unfed = [other for other in working if other not in self.given]
        if not left or (self.equal and unfed and device in self.given):
            return None
        share = self.rates[device] / sum(self.rates[other] for other in working)
        if self.equal and len(working) > 1:
            last = len(unfed) <= 1
            size = left if last else in_granules(self.job.units / len(self.devices), left, self.job.granule)
        else:
            size = next_size(
                left,
                self.job.units,
                device.granule(self.job),
                self.rates[device],
                share,
                given=self.given.get(device, 0),
                held=self.held(device),
                depth=device.depth,
                shortest=device.shortest,
            )
        self.given[device] = self.given.get(device, 0) + 1
        chunk = Chunk(self.next, self.next + size)
        self.next = chunk.stop
        return chunk

    def stalled_chunk(self, device: Device) -> Chunk | None:
        """Take over a chunk of a device that is far behind what was expected of it."""
        now = time.monotonic()
        for other, chunks in self.active.items():
            for chunk in chunks:
                behind = late(now - chunk.began, chunk.expected, other.grace) and not chunk.returning
                if behind and other is not device and other.abandonable and device not in chunk.refused:
                    other.abandon()
                    self.report.notes.append(
                        f"{other.name}: stalled for {now - chunk.began:.2f} s, its {self.held(other)} units "
                        f"go to {device.name}" + (" and others" if len(chunks) > 1 else "")
                    )
                    self.give_up(other, now)
                    self.changed.notify_all()
                    return self.returned_chunk(device)
        return None

    def lose(self, device: Device, error: ComputeError) -> None:
        with self.changed:
            if device not in self.out:
                self.report.notes.append(str(error))
                self.losses.append(error)
            if len(self.active[device]) > 1 and device.abandonable:
                device.abandon()
            self.give_up(device, time.monotonic())

    def drop(self, device: Device, chunk: Chunk) -> None:
        """Nobody waits for this chunk of a device any more."""
        if chunk in self.active[device]:
            self.active[device].remove(chunk)

    def give_up(self, device: Device, now: float) -> None:
        """The device gets nothing more of this job; what it had under way is for the others."""
        self.out.add(device)
        self.rows[device].lost = True
        chunks = self.active[device]
        self.returned += [chunk.again(now) for chunk in chunks if not chunk.returning]
        self.active[device] = [chunk for chunk in chunks if chunk.returning]
