"""`python -m factfold.cli`, where no script is installed."""

from factfold.cli import main

if __name__ == "__main__":
    main()
