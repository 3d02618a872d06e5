"""``python -m syncer COMMAND``."""

from syncer.main import main

if __name__ == "__main__":
    main()
