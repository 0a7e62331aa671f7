"""The unix halves of Wine's DLLs: what a DLL calls that Wine answers outside the PE world, answered here."""
