"""An OpenID provider for tests: the protocol's rules are authlib's, the server is a real one on loopback.

`provider.running_provider` starts it, `wrong_tokens.WRONG_TOKENS` has the tokens that must be refused.
"""
