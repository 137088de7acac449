"""What a person sees: progress, and tables of results."""
