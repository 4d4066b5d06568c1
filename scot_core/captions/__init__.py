"""Readers of captioned images. Each yields rows, or the reason why an entry makes none."""
