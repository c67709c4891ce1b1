"""What the networks compute, by the names of the reference's files. Tests and ``gpu_check`` compare the same things."""
