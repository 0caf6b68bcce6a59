"""The recorder's entry point: Deployments of every release start the module of this name."""

from distillery.feedback.recorder import main

if __name__ == "__main__":
    main()
