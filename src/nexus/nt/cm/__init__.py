"""The registry: keys and values in memory, what a fresh one holds, and the file it is kept in (`--drive`)."""
