"""``python -m ebpfsim``: the command line."""

from ebpfsim.cli.main import main

if __name__ == "__main__":
    main()
