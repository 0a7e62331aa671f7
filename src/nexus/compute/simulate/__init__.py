"""A discrete-event model of clusters that are not here, and how far it can be believed.

`model` says what is described (a job, a machine), `farm` plays one job through chunk by chunk with the
rules of the real scheduler (`nexus.compute.chunks`), `campaign` plays hours of such jobs with failures and
checkpoints, `scale` draws the curve to 1 EFLOP/s, `records` has what others measured, `validation` compares
predictions with real runs on this machine. Every figure that comes out is simulated, and says so.
"""
