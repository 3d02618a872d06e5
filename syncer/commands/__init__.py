"""The commands, by what they are for; ``main`` puts them under one name. What they share is in ``common``."""
