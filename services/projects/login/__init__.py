"""Login by an OpenID provider."""
