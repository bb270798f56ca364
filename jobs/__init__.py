"""What a person launches: the ``ldnn`` command, recipes and cluster files."""
