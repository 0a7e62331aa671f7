"""Files and devices: volumes, folders, pipes, streams, and the completion ports that tell about them.

Read `file` (what all devices have in common), `device_io` (from a name to a device), `volume`, `file_disk`.
"""
