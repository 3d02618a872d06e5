"""What AWS Lambda calls; see ``app``."""
