"""The public interfaces: one abstract base class a file. Plugins derive from these and from nothing else."""
