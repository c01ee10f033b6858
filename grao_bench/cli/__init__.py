"""What the commands at the package's root share."""
