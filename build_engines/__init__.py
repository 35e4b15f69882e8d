"""From a checkpoint to an engine file. Needs torch."""
