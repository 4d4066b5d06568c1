"""The embedded world: a drawn product catalogue, its language, and a benchmark with exact ground truth."""
