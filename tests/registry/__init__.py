"""A real registry, and images for it that no container engine has made."""
