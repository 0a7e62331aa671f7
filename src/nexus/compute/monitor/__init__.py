"""What the devices of this machine and the engines on it do now, for `nexus compute top` and its page.

`live` is written by running jobs, `machine` and `gpus` read what the kernel and the drivers tell, `top` shows
it in a terminal or as JSON lines, `page` to a browser on this machine.
"""
