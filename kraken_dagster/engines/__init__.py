"""Where jobs run: this machine, or a Slurm cluster over SSH."""
