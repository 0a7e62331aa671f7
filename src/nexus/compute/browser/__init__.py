"""Browsers as devices: a page that lends a visitor's GPU to a job, over a WebSocket.

What comes from a browser is from a stranger: `protocol` says what a message may be, `lobby` serves the page,
takes one-time tokens and ends every connection that breaks the rules, `device` gives one browser's chunks to
the scheduler, whose check of each result decides whether it stays. `page.html` is all that the browser runs;
the kernels it gets are those of `nexus.compute.devices.wgsl`.
"""
