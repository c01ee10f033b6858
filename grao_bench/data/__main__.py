"""python -m grao_bench.data FILE_OR_HUB_ID: what would be read."""

from grao_bench.cli.show_data import main

if __name__ == "__main__":
    main()
