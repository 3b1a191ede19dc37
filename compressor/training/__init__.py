"""Training: one engine, the losses, and what a student is taught with."""
