"""`python -m copytrader` is `copytrader`."""

from copytrader.cli import main

if __name__ == "__main__":
    main()
