"""What can run chunks of a job. `base` says what a device is, `discovery` finds those of this machine."""
