"""Measuring: likelihoods, image quality and codebook use, each value with the protocol it was measured under."""
