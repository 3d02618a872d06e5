"""Copy new mail from a Gmail mailbox into a folder of an Outlook.com mailbox, exactly once."""

__version__ = "0.1.0"
