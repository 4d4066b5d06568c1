"""One flow for each stage, and `regenerate`, which reads like Figure 2 of the paper.

Every flow is named `scot` and is deployed under its stage's name: `prefect deployment run scot/train`.
"""
