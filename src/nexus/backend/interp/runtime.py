"""What surrounds the handlers in the blob, for x86-64 Linux hosts. Imported only to build it.

run(state, record)          runs until an exit. The guest's MXCSR and x87 control word are loaded meanwhile,
                            with all exceptions masked; sticky bits are added to the state's mxcsr at the exit
guarded_copy(to, from, n)   copies; returns how many bytes were not copied because of a fault
on_signal(number, info, c)  the SIGSEGV and SIGBUS handler: a guest access that faults becomes an exit, one in
                            guarded_copy its return; anything else goes to the handler that was there before
native                      where host code of T1 lies: begin, end, size of a piece less one; a fault there is
                            left through the beginning of its piece
previous                    what that was: for SIGSEGV, then SIGBUS, the kernel's {handler, flags} as two u64

A fault belongs to the guest if the instruction is one of a handler (or of T1) and the address lies in the
window or beside it; the state is then found in r12, which handlers never change (`build.py` checks the
machine code). A misaligned vector of T1's is taken for an access at the window's top.
"""

from __future__ import annotations

from nexus.ir.state import SLOTS, Exit

HANDLERS_BEGIN, HANDLERS_END = "handlers_begin", "handlers_end"
REACH = 1 << 32  # bytes on both sides of the window where nothing else is

_RUN = """
push %rbp
push %rbx
push %r12
push %r13
push %r14
push %r15
sub $$24, %rsp
mov %rdi, %r12
mov %rsi, %r13
mov {window}(%r12), %r14
mov {top}(%r12), %r15
mov %r12, 16(%rsp)
stmxcsr (%rsp)
mov {mxcsr}(%r12), %eax
and $$0xffff, %eax
or $$0x1f80, %eax
mov %eax, 4(%rsp)
ldmxcsr 4(%rsp)
fnstcw 8(%rsp)
mov {fcw}(%r12), %eax
or $$0x3f, %eax
mov %ax, 10(%rsp)
fldcw 10(%rsp)
mov %rsp, {host_stack}(%r12)
call *(%r13)
mov 16(%rsp), %r12
jmp 1f
.globl fault_exit
fault_exit:
mov {host_stack}(%r12), %rsp
1:
stmxcsr 4(%rsp)
mov 4(%rsp), %eax
and $$0x3f, %eax
or %eax, {mxcsr}(%r12)
ldmxcsr (%rsp)
fldcw 8(%rsp)
add $$24, %rsp
pop %r15
pop %r14
pop %r13
pop %r12
pop %rbx
pop %rbp
ret
"""

_COPY = """
mov %rdx, %rcx
.globl copy_instruction
copy_instruction:
rep movsb
.globl copy_end
copy_end:
mov %rcx, %rax
ret
"""

_SI_KERNEL = 128  # si_code of a fault without an address: #GP, which a misaligned vector is
# Offsets into ucontext_t: the general registers begin at 40, in the order r8..r15 rdi rsi rbp rbx rdx rax
# rcx rsp rip eflags cs err.
_R12, _RIP, _ERR = 40 + 8 * 4, 40 + 8 * 16, 40 + 8 * 19


_ON_SIGNAL = f"""
@previous = dso_local global [4 x i64] zeroinitializer
@native = dso_local global [3 x i64] zeroinitializer
@compiled = dso_local global [4 x i64] zeroinitializer
declare dso_local void @fault_exit()
declare dso_local void @copy_instruction()
declare dso_local void @copy_end()

define dso_local void @on_signal(i32 %number, ptr %info, ptr %context) #0 {{
  %rip.p = getelementptr i8, ptr %context, i64 {_RIP}
  %rip = load i64, ptr %rip.p
  %in.copy = icmp eq i64 %rip, ptrtoint (ptr @copy_instruction to i64)
  br i1 %in.copy, label %copy, label %range
copy:
  store i64 ptrtoint (ptr @copy_end to i64), ptr %rip.p
  ret void
range:
  %above = icmp uge i64 %rip, ptrtoint (ptr @{HANDLERS_BEGIN} to i64)
  %below = icmp ult i64 %rip, ptrtoint (ptr @{HANDLERS_END} to i64)
  %in.handler = and i1 %above, %below
  br i1 %in.handler, label %handler, label %other
other:
  %native.begin = load i64, ptr @native
  %native.end.p = getelementptr i64, ptr @native, i64 1
  %native.end = load i64, ptr %native.end.p
  %native.above = icmp uge i64 %rip, %native.begin
  %native.below = icmp ult i64 %rip, %native.end
  %in.native = and i1 %native.above, %native.below
  br i1 %in.native, label %handler, label %regions
regions:
  %unit.begin = load i64, ptr @compiled
  %unit.end.p = getelementptr i64, ptr @compiled, i64 1
  %unit.end = load i64, ptr %unit.end.p
  %unit.above = icmp uge i64 %rip, %unit.begin
  %unit.below = icmp ult i64 %rip, %unit.end
  %in.unit = and i1 %unit.above, %unit.below
  br i1 %in.unit, label %search, label %foreign
search:
  %unit.table.p = getelementptr i64, ptr @compiled, i64 2
  %unit.table = load ptr, ptr %unit.table.p
  %unit.count.p = getelementptr i64, ptr @compiled, i64 3
  %unit.count = load i64, ptr %unit.count.p
  %unit.at = sub i64 %rip, %unit.begin
  br label %halve
halve:
  %low = phi i64 [ 0, %search ], [ %low.next, %narrower ]
  %high = phi i64 [ %unit.count, %search ], [ %high.next, %narrower ]
  %none = icmp uge i64 %low, %high
  br i1 %none, label %foreign, label %look
look:
  %both = add i64 %low, %high
  %middle = lshr i64 %both, 1
  %entry.p = getelementptr {{ i32, i32 }}, ptr %unit.table, i64 %middle
  %access32 = load i32, ptr %entry.p
  %access = zext i32 %access32 to i64
  %found = icmp eq i64 %access, %unit.at
  br i1 %found, label %landing, label %narrower
narrower:
  %less = icmp ult i64 %access, %unit.at
  %after = add i64 %middle, 1
  %low.next = select i1 %less, i64 %after, i64 %low
  %high.next = select i1 %less, i64 %high, i64 %middle
  br label %halve
landing:
  %landing.p = getelementptr {{ i32, i32 }}, ptr %unit.table, i64 %middle, i32 1
  %landing32 = load i32, ptr %landing.p
  %landing64 = zext i32 %landing32 to i64
  %landing.at = add i64 %unit.begin, %landing64
  store i64 %landing.at, ptr %rip.p
  ret void
handler:
  %of.native = phi i1 [ false, %range ], [ true, %other ]
  %given.p = getelementptr i8, ptr %info, i64 16
  %given = load i64, ptr %given.p
  %code.p = getelementptr i8, ptr %info, i64 8
  %code = load i32, ptr %code.p
  %no.address = icmp eq i32 %code, {_SI_KERNEL}
  %r12.p = getelementptr i8, ptr %context, i64 {_R12}
  %state = load ptr, ptr %r12.p
  %window.p = getelementptr i64, ptr %state, i64 {SLOTS["window"]}
  %window = load i64, ptr %window.p
  %top.p = getelementptr i64, ptr %state, i64 {SLOTS["top"]}
  %top = load i64, ptr %top.p
  %misaligned = and i1 %of.native, %no.address
  %wall = add i64 %window, %top
  %address = select i1 %misaligned, i64 %wall, i64 %given
  %begin = sub i64 %window, {REACH}
  %offset = sub i64 %address, %begin
  %end = add i64 %top, {2 * REACH}
  %in.window = icmp ult i64 %offset, %end
  br i1 %in.window, label %guest, label %foreign
guest:
  br i1 %in.handler, label %noted, label %spill
spill:
  %at.p = getelementptr i64, ptr %state, i64 {SLOTS["exit_at"]}
  store i64 %rip, ptr %at.p
  %native.first = load i64, ptr @native
  %native.offset = sub i64 %rip, %native.first
  %native.piece.p = getelementptr i64, ptr @native, i64 2
  %native.piece = load i64, ptr %native.piece.p
  %native.rest = and i64 %native.offset, %native.piece
  %native.leave = sub i64 %rip, %native.rest
  br label %noted
noted:
  %go.on = phi i64 [ ptrtoint (ptr @fault_exit to i64), %guest ], [ %native.leave, %spill ]
  %fault.p = getelementptr i64, ptr %state, i64 {SLOTS["fault_address"]}
  store i64 %address, ptr %fault.p
  %err.p = getelementptr i8, ptr %context, i64 {_ERR}
  %err = load i64, ptr %err.p
  %bit = lshr i64 %err, 1
  %write = and i64 %bit, 1
  %write.p = getelementptr i64, ptr %state, i64 {SLOTS["fault_write"]}
  store i64 %write, ptr %write.p
  %exit.p = getelementptr i64, ptr %state, i64 {SLOTS["exit"]}
  store i64 {Exit.FAULT}, ptr %exit.p
  %signal = zext i32 %number to i64
  %arg.p = getelementptr i64, ptr %state, i64 {SLOTS["exit_arg"]}
  store i64 %signal, ptr %arg.p
  store i64 %go.on, ptr %rip.p
  ret void
foreign:
  %is.bus = icmp eq i32 %number, 7
  %index = select i1 %is.bus, i64 2, i64 0
  %old.p = getelementptr i64, ptr @previous, i64 %index
  %old = load i64, ptr %old.p
  %has.old = icmp ugt i64 %old, 1
  br i1 %has.old, label %chain, label %default
chain:
  %old.handler = inttoptr i64 %old to ptr
  call void %old.handler(i32 %number, ptr %info, ptr %context)
  ret void
default:
  call void @restore_default(i32 %number)
  ret void
}}
"""

# rt_sigaction(number, {SIG_DFL}, NULL, 8); the fault happens again when the signal returns and ends the
# process.
_RESTORE_DEFAULT = """
push $$0
push $$0
push $$0
push $$0
mov %rsp, %rsi
xor %edx, %edx
mov $$8, %r10d
mov $$13, %eax
syscall
add $$32, %rsp
ret
"""


def _naked(signature: str, text: str) -> str:
    body = text.strip().replace("\n", "\\0A")
    call = f'call void asm sideeffect "{body}", ""()'
    return f"define dso_local {signature} naked nounwind {{\n  {call}\n  unreachable\n}}\n"


def around(handlers: str) -> str:
    """The whole module: marks before and after the handlers, then the functions above."""
    offsets = {name: index * 8 for name, index in SLOTS.items()}
    return (
        f"define dso_local void @{HANDLERS_BEGIN}() naked {{\n  unreachable\n}}\n"
        + handlers
        + f"define dso_local void @{HANDLERS_END}() naked {{\n  unreachable\n}}\n"
        + _naked("void @run(ptr %state, ptr %record)", _RUN.format(**offsets))
        + _naked("i64 @guarded_copy(ptr %to, ptr %from, i64 %n)", _COPY)
        + _naked("void @restore_default(i32 %number)", _RESTORE_DEFAULT)
        + _ON_SIGNAL
    )
