"""What ``syncer doctor`` does to find out what is wrong: each module does the checks of one area."""
