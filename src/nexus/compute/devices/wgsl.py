"""The WGSL kernels, written for a tile size."""

from __future__ import annotations

TILES = (8, 16)
"""Sides of the square workgroups tried; 16 * 16 = 256 threads is the most WebGPU guarantees."""


def matmul(tile: int) -> str:
    """C = A @ B, row-major; each workgroup computes a tile of (2 * tile) by (2 * tile).

    Each thread keeps 2 by 2 results in registers; tiles of both operands go through workgroup memory.
    """
    side = 2 * tile
    return f"""
struct Sizes {{ rows: u32, columns: u32, depth: u32 }}
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;
var<workgroup> left: array<f32, {side * tile}>;
var<workgroup> right: array<f32, {side * tile}>;

@compute @workgroup_size({tile}, {tile})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {{
  let x = local.x;
  let y = local.y;
  let row = group.y * {side}u + y;
  let column = group.x * {side}u + x;
  var sum = vec4<f32>();
  for (var near = 0u; near < sizes.depth; near += {tile}u) {{
    for (var half = 0u; half < 2u; half++) {{
      let r = row + half * {tile}u;
      let k = near + x;
      left[(y + half * {tile}u) * {tile}u + x] =
        select(0.0, a[min(r, sizes.rows - 1u) * sizes.depth + min(k, sizes.depth - 1u)],
               r < sizes.rows && k < sizes.depth);
      let q = column + half * {tile}u;
      let d = near + y;
      right[y * {side}u + x + half * {tile}u] =
        select(0.0, b[min(d, sizes.depth - 1u) * sizes.columns + min(q, sizes.columns - 1u)],
               q < sizes.columns && d < sizes.depth);
    }}
    workgroupBarrier();
    for (var k = 0u; k < {tile}u; k++) {{
      let top = left[y * {tile}u + k];
      let bottom = left[(y + {tile}u) * {tile}u + k];
      let first = right[k * {side}u + x];
      let second = right[k * {side}u + x + {tile}u];
      sum += vec4<f32>(top * first, top * second, bottom * first, bottom * second);
    }}
    workgroupBarrier();
  }}
  for (var n = 0u; n < 4u; n++) {{
    let r = row + (n / 2u) * {tile}u;
    let q = column + (n % 2u) * {tile}u;
    if (r < sizes.rows && q < sizes.columns) {{
      c[r * sizes.columns + q] = sum[n];
    }}
  }}
}}
"""


TRANSFORM = """
struct Sizes { points: u32, per_row: u32 }
@group(0) @binding(0) var<storage, read> points: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> turned: mat4x4<f32>;
@group(0) @binding(2) var<storage, read_write> moved: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let at = id.y * sizes.per_row + id.x;
  if (at < sizes.points) {
    moved[at] = turned * points[at];
  }
}
"""
