"""What is deployed: the templates, the package, and both run for real on emulators."""
