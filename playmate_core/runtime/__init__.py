"""What every room stands on: errors, progress, devices, acceleration, and the host that manages memory."""
