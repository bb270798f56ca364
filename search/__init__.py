"""The search: configuration, methods as trials, Optuna, Ray Tune, and the results store."""
