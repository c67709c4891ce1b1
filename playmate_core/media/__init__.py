"""Pictures, sound and film, in and out."""
