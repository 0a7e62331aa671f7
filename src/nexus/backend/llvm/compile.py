"""LLVM text to an object file. Run this in a helper process: a fatal error of LLVM ends the process it
happens in."""

from __future__ import annotations

import llvmlite.binding as llvm

from nexus.base.errors import NexusError

# Used when the host has them.
_FEATURES = (
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "lzcnt",
    "bmi",
    "bmi2",
    "movbe",
    "adx",
    "aes",
    "pclmul",
    "cx16",
)


# Only rows with `avx` are compiled with these: their encodings clear the upper parts of registers, which
# engines may keep.
_AVX = ("avx", "avx2", "fma", "f16c")
# Templates name instructions of these.
_NEEDED = ("ssse3", "sse4.1", "sse4.2", "aes", "pclmul", "cx16", *_AVX)


def features(avx: bool = False) -> str:
    """The host's features that code may use, as LLVM writes them."""
    host = llvm.get_host_cpu_features()
    missing = [name for name in _NEEDED if not host.get(name)]
    if missing:
        raise NexusError(
            f"this host's processor lacks {', '.join(missing)}, which the engine's vector instructions need",
            hint="in a virtual machine, pass the host's processor through (-cpu host)",
        )
    usable = ",".join(f"+{name}" for name in _FEATURES if host.get(name))
    return usable + (",".join(("", *(f"+{name}" for name in _AVX))) if avx else ",-avx")


def compile_object(
    text: str,
    level: int = 2,
    reloc: str = "pic",
    codemodel: str = "small",
    avx: bool = False,
    zero_upper: bool = True,
) -> bytes:
    """Verify, optimise and compile a module for this host, position-independent by default; with `avx` all of
    it may use that. Without `zero_upper`, functions leave the upper halves of vector registers as they are
    when they end."""
    if not zero_upper:
        llvm.set_option("nexus", "-x86-use-vzeroupper=0")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu="x86-64", features=features(avx), opt=level, reloc=reloc, codemodel=codemodel, jit=False
    )
    module = llvm.parse_assembly(text)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.loop_interleaving = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    result: bytes = machine.emit_object(module)
    return result
