# Stack probe that gcc-style code calls before it takes more than a page; rax = size, all registers kept.
    .globl ___chkstk_ms
___chkstk_ms:
    pushq %rax
    pushq %rcx
    leaq 24(%rsp), %rcx
touch:
    cmpq $0x1000, %rax
    jb last
    subq $0x1000, %rcx
    subq $0x1000, %rax
    orb $0, (%rcx)
    jmp touch
last:
    subq %rax, %rcx
    orb $0, (%rcx)
    popq %rcx
    popq %rax
    ret
