"""Training of the weights: motion capture, synthetic cameras and detectors, training, evaluation. Needs torch."""
