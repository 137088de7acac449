"""Training of both stages: what is written, when it stops, how it resumes."""
