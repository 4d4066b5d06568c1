"""Thin Prefect tasks: one step of `scot_core` each, nothing else."""
