"""What every engine shares on its way through LLVM: expanding row templates, and compiling in a helper
process."""
