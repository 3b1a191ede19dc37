"""What is done with run folders afterwards: bench them, compare them, check them in CI."""
