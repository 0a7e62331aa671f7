"""A GPU through wgpu (Vulkan, Metal, D3D12, GL): products and point transformations in fp32.

Operands are uploaded per chunk; the second operand of a product stays on the device for the whole job when
it fits. A product that does not fit into the device's memory limit goes through it in tiles.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from nexus.compute.devices import wgsl
from nexus.compute.devices.base import Device
from nexus.compute.errors import DeviceLost, OutOfDeviceMemory
from nexus.compute.formats import Array
from nexus.compute.job import Job
from nexus.compute.tiling import steps, tile_sizes

GROUPS_PER_ROW = 32768
AUTOTUNE_SIDE = 128


class GpuDevice(Device):
    """One adapter. `memory` bounds the bytes of one product's tiles; the device's own buffer limit
    always applies.
    """

    kind = "gpu"
    detached = True

    def __init__(self, adapter: Any, number: int, address: str = "", memory: int | None = None) -> None:
        super().__init__()
        self.adapter = adapter
        self.name = f"gpu{number}"
        info = adapter.info
        self.version = f"{info['device']}, {info['description']}, {info['backend_type']}"
        self.shares_host = info["adapter_type"] in ("CPU", "Unknown")
        self.address = address
        self.limit = min(
            int(adapter.limits["max-storage-buffer-binding-size"]), int(adapter.limits["max-buffer-size"])
        )
        self.memory = memory
        self.device: Any = None
        self.pipelines: dict[str, Any] = {}
        self.variant: wgsl.Variant | None = None
        self.kept: tuple[Array, Any] | None = None
        self.given_up = False

    @property
    def family(self) -> str:
        return self.version

    def lacks(self, job: Job) -> str:
        if job.kernel not in ("matmul", "transform"):
            return f"it has no kernel for {job.kernel}"
        if job.params.get("exact"):
            return "sums of int8 products are not exact in its fp32 kernel"
        if self.given_up:
            return "it stopped answering"
        return ""

    def granule(self, job: Job) -> int:
        """Whole tiles of the kernel: a part of one takes as long."""
        if job.kernel != "matmul" or self.variant is None:
            return job.granule
        return math.ceil(self.variant.side / job.granule) * job.granule

    def prepare(self, job: Job) -> None:
        if self.device is None:
            limits = {
                name: self.adapter.limits[name]
                for name in ("max-storage-buffer-binding-size", "max-buffer-size")
            }
            try:
                self.device = self.adapter.request_device_sync(required_limits=limits)
            except RuntimeError as error:
                raise DeviceLost(f"{self.name}: {error}") from None
        if self.variant is None and job.kernel == "matmul":
            self.variant = self.fastest()

    def fastest(self) -> wgsl.Variant:
        """The product kernel that multiplies a small matrix fastest here."""
        sample = np.ones((AUTOTUNE_SIDE, AUTOTUNE_SIDE), np.float32)
        seconds = []
        for variant in wgsl.PRODUCTS:
            self.multiply(sample, sample, variant)
            began = time.perf_counter()
            self.multiply(sample, sample, variant)
            seconds.append(time.perf_counter() - began)
        return wgsl.PRODUCTS[int(np.argmin(seconds))]

    def run(self, job: Job, start: int, stop: int) -> Array | None:
        try:
            if job.kernel == "transform":
                return self.transform(job.inputs[0][start:stop], job.inputs[1])
            # In deterministic mode by fixed tiles: how the depth is cut depends on the rows.
            parts = steps(start, stop, job.params["tile"] or stop - start)
            products = [self.product(job.inputs[0][low:high], job.inputs[1]) for low, high in parts]
            product = products[0] if len(products) == 1 else np.concatenate(products)
        except (DeviceLost, OutOfDeviceMemory):
            raise
        except Exception as error:
            # wgpu has no common class for its errors; each of them means this device cannot go on.
            kind = OutOfDeviceMemory if "memory" in str(error).lower() else DeviceLost
            raise kind(f"{self.name}: {type(error).__name__}: {error}") from None
        if job.params["scale"] != 1.0:
            product *= np.float32(job.params["scale"])
        return product

    def product(self, a: Array, b: Array) -> Array:
        variant = self.variant or self.fastest()
        limit = min(self.memory or 3 * self.limit, 3 * self.limit)
        rows, columns, depth = tile_sizes(len(a), b.shape[1], b.shape[0], limit)
        largest = self.limit // 4
        while rows * depth > largest or depth * columns > largest or rows * columns > largest:
            rows, columns, depth = ((side + 1) // 2 for side in (rows, columns, depth))
        if (rows, columns, depth) == (len(a), b.shape[1], b.shape[0]):
            return self.multiply(a, b, variant, keep=True)
        out = np.zeros((len(a), b.shape[1]), np.float32)
        for top, bottom in steps(0, len(a), rows):
            for left, right in steps(0, b.shape[1], columns):
                for near, far in steps(0, b.shape[0], depth):
                    out[top:bottom, left:right] += self.multiply(
                        a[top:bottom, near:far], b[near:far, left:right], variant
                    )
        return out

    def multiply(self, a: Array, b: Array, variant: wgsl.Variant, *, keep: bool = False) -> Array:
        """One product that fits; `keep` leaves `b` on the device for the next chunk."""
        if keep and self.kept is not None and self.kept[0] is b:
            on_device = self.kept[1]
        else:
            on_device = self.upload(b)
            self.kept = (b, on_device) if keep else None
        sizes = np.array([len(a), b.shape[1], b.shape[0]], np.uint32)
        groups = (math.ceil(b.shape[1] / variant.side), math.ceil(len(a) / variant.side), 1)
        return self.dispatch(variant.source, [self.upload(a), on_device], sizes, (len(a), b.shape[1]), groups)

    def transform(self, points: Array, matrix: Array) -> Array:
        out = np.empty(points.shape, np.float32)
        # WGSL matrices are stored by column, numpy's by row: uploading the transpose's bytes gives the
        # matrix itself.
        turned = self.upload(np.ascontiguousarray(matrix.T))
        for low, high in steps(0, len(points), self.limit // 16):
            groups = math.ceil((high - low) / 64)
            across = min(groups, GROUPS_PER_ROW)
            sizes = np.array([high - low, across * 64], np.uint32)
            shape = (high - low, 4)
            grid = (across, math.ceil(groups / across), 1)
            out[low:high] = self.dispatch(
                wgsl.TRANSFORM, [self.upload(points[low:high]), turned], sizes, shape, grid
            )
        return out

    def upload(self, array: Array) -> Any:
        import wgpu

        data = np.ascontiguousarray(array)
        self.copied += data.nbytes
        return self.device.create_buffer_with_data(data=data, usage=wgpu.BufferUsage.STORAGE)

    def dispatch(
        self,
        source: str,
        inputs: list[Any],
        sizes: Array,
        shape: tuple[int, int],
        groups: tuple[int, int, int],
    ) -> Array:
        """Run a kernel whose third binding is its output and whose fourth are the sizes."""
        import wgpu

        size = shape[0] * shape[1] * 4
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
        result = self.device.create_buffer(size=size, usage=usage)
        pipeline = self.pipelines.get(source)
        if pipeline is None:
            module = self.device.create_shader_module(code=source)
            stage = {"module": module, "entry_point": "main"}
            pipeline = self.pipelines[source] = self.device.create_compute_pipeline(
                layout="auto", compute=stage
            )
        bound = [*inputs, result, self.upload(sizes)]
        entries = [
            {"binding": n, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
            for n, buffer in enumerate(bound)
        ]
        group = self.device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(*groups)
        compute.end()
        self.device.queue.submit([encoder.finish()])
        self.copied += size
        return np.frombuffer(self.device.queue.read_buffer(result), np.float32).reshape(shape).copy()

    def finish(self, job: Job) -> None:
        self.kept = None

    def abandon(self) -> None:
        self.given_up = True

    def close(self) -> None:
        self.kept = None
        self.pipelines.clear()
        if self.device is not None:
            self.device.destroy()
            self.device = None
