"""The cookies of a login.

| cookie | holds | sent to |
|---|---|---|
| flyteplane_session | the ID token, which the gateway validates with each request | every path |
| flyteplane_login | a secret of the browser, while logins are under way | every path |
| flyteplane_refresh | the refresh token | /login and /logout |
"""

from collections.abc import Mapping

from starlette.responses import Response

from services.projects.login.client import Session
from services.projects.rules.login import LOGIN_SECONDS, is_secret

SESSION = "flyteplane_session"
"""The gateway reads the cookie of this name (gateway/authentication.py)."""

_LOGIN = "flyteplane_login"
_REFRESH = "flyteplane_refresh"
_REFRESH_PATHS = ("/login", "/logout")
# Browsers take 4096 bytes for name and value, some for the attributes too.
MOST_TOKEN_BYTES = 3900
# Longest lifetime that browsers give a cookie: 400 days.
_MOST_SECONDS = 400 * 24 * 3600
# What tokens consist of; anything else could end the cookie, or the header.
_TOKEN_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/=|!*'()$&:@")


class Cookies:
    """Reads and sets the cookies.

    Args:
        secure: whether browsers reach the gateway by https. Then no cookie is sent in clear text, and no page of
            another host, such as one of a neighbour's domain, can set the secret (the prefix __Host-).
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._login = f"__Host-{_LOGIN}" if secure else _LOGIN

    def secret(self, cookies: Mapping[str, str]) -> str:
        """Return the browser's secret, "" without a good one."""
        found = cookies.get(self._login, "")
        return found if is_secret(found) else ""

    def set_secret(self, response: Response, secret: str) -> None:
        """Give the browser a secret, for as long as a login may take."""
        self._set(response, self._login, secret, LOGIN_SECONDS)

    def set_session(self, response: Response, session: Session, now: float) -> None:
        """Give the browser a session in place of any other; `fits` must hold for its tokens."""
        self._set(response, SESSION, session.id_token, min(int(session.expires_at - now), _MOST_SECONDS))
        for path in _REFRESH_PATHS:
            if session.refresh_token and fits(session.refresh_token):
                self._set(response, _REFRESH, session.refresh_token, _MOST_SECONDS, path)
            else:
                self._delete(response, _REFRESH, path)

    def clear(self, response: Response) -> None:
        """End the browser's session."""
        self._delete(response, SESSION, "/")
        self._delete(response, self._login, "/")
        for path in _REFRESH_PATHS:
            self._delete(response, _REFRESH, path)

    def _set(self, response: Response, name: str, value: str, seconds: int, path: str = "/") -> None:
        # Not by the response's own method, which writes a value with some of these characters in quotes.
        attributes = f"; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{'; Secure' if self._secure else ''}"
        response.headers.append("set-cookie", f"{name}={value}{attributes}")

    def _delete(self, response: Response, name: str, path: str) -> None:
        self._set(response, name, "", 0, path)


def refresh_token(cookies: Mapping[str, str]) -> str:
    """Return the browser's refresh token, "" without one."""
    found = cookies.get(_REFRESH, "")
    return found if fits(found) else ""


def fits(token: str) -> bool:
    """Return whether a cookie can hold a token."""
    return len(token) <= MOST_TOKEN_BYTES and _TOKEN_CHARACTERS.issuperset(token)
