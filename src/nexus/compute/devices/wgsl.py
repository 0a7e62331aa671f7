"""The WGSL kernels. Products come in variants; which is fastest is measured on the device."""

from __future__ import annotations

HEADER = """
struct Sizes { rows: u32, columns: u32, depth: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;
"""


class Variant:
    """A kernel for C = A @ B, row-major; a workgroup computes `side` by `side` elements of C."""

    def __init__(self, name: str, side: int, source: str) -> None:
        self.name = name
        self.side = side
        self.source = source


def through_workgroup_memory(tile: int) -> Variant:
    """`tile` by `tile` threads (at most 16, WebGPU's guaranteed 256) with 2 by 2 results each.

    Tiles of both operands are loaded once for the whole workgroup.
    """
    side = 2 * tile
    source = f"""
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
    return Variant(f"workgroup{tile}", side, HEADER + source)


def through_registers() -> Variant:
    """8 by 8 threads with 4 by 4 results each, read straight from the operands: for devices whose
    workgroup memory and barriers are slow, such as software ones.
    """
    across = range(4)
    loads = "\n".join(
        f"    let b{n} = b[k * sizes.columns + min(column + {n}u, sizes.columns - 1u)];" for n in across
    )
    lines = []
    for m in range(4):
        lines.append(f"    let a{m} = a[min(row + {m}u, sizes.rows - 1u) * sizes.depth + k];")
        lines += [f"    s{m}{n} += a{m} * b{n};" for n in across]
    stores = "\n".join(
        f"  if (row + {m}u < sizes.rows && column + {n}u < sizes.columns) "
        f"{{ c[(row + {m}u) * sizes.columns + column + {n}u] = s{m}{n}; }}"
        for m in range(4)
        for n in across
    )
    sums = "\n".join(f"  var s{m}{n} = 0.0;" for m in range(4) for n in across)
    body = "\n".join(lines)
    source = f"""
@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  let row = id.y * 4u;
  let column = id.x * 4u;
{sums}
  for (var k = 0u; k < sizes.depth; k++) {{
{loads}
{body}
  }}
{stores}
}}
"""
    return Variant("registers", 32, HEADER + source)


PRODUCTS = (through_workgroup_memory(8), through_workgroup_memory(16), through_registers())


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
