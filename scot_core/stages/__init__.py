"""The stages of the pipeline as steps: what to compute, in which shards, into which datasets.

A step knows nothing of who runs it. `flows` submits its shards as Prefect tasks; a test may simply loop.
"""
