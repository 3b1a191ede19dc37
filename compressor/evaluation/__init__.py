"""What changed between a teacher and its students, with statistics; runs no model itself."""
