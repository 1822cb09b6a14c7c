"""Classic models, one module for each family, with expected outputs that do not come from the project."""
