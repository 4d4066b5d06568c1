"""What the stages that ask a language model have in common: replies kept as they arrive, and read afterwards."""
