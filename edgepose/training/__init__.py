"""How the weights came to be: motion capture, synthetic cameras and detectors, training, evaluation. Needs torch."""
