"""What a person runs: the command line, its terminal output, doctor and plan. It stands above the flows."""
