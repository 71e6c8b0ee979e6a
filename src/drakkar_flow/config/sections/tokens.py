"""OAUTHBEARER tokens: a user's function as librdkafka's callback."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from drakkar_flow.errors import Problem, StartupError

__all__ = ["TokenCallback"]

_WHERE = "kafka.security.oauth_callback"
_RETURNS = "return the token and its expiry in seconds since 1970, e.g. ('eyJ...', time.time() + 3600)"

_logger = logging.getLogger("drakkar_flow.kafka")


class TokenCallback:
    """Gets tokens from the function at an import path; librdkafka calls it on a separate thread.

    A function that raises while the flow runs is logged, and called again after 10 s.

    Raises:
        StartupError: there is no such function; exit code 2.
    """

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        try:
            function = getattr(import_module(module), name)
        except Exception as error:  # whatever the user's module raises
            what = f"can't import {path!r}: {type(error).__name__}: {error}"
            remedy = "write it as 'package.module:function', of a module on PYTHONPATH"
            raise StartupError([Problem(_WHERE, what, remedy)], exit_code=2) from error
        if not callable(function):
            problem = Problem(_WHERE, f"{path!r} is a {type(function).__name__}, not a function")
            raise StartupError([problem], exit_code=2)
        self._path = path
        self._function: Callable[[str], Any] = function

    def __call__(self, config: str) -> Any:
        """The token, its expiry, and whatever else the function returns for librdkafka."""
        try:
            return self._token(config)
        except Exception as error:
            expect = "it is called again after 10 s; connections last until their token expires"
            text = f"{type(error).__name__}: {error}"
            _logger.warning("oauth_callback_failed", extra={"function": self._path, "error": text, "expect": expect})
            raise

    def check(self, config: str) -> None:
        """Get a token now.

        Raises:
            StartupError: the function raised (exit code 1), or returned something else (2).
        """
        try:
            self._token(config)
        except (TypeError, ValueError) as error:
            raise StartupError([Problem(_WHERE, f"{self._path}: {error}", _RETURNS)], exit_code=2) from error
        except Exception as error:
            what = f"{self._path} raised {type(error).__name__}: {error}"
            raise StartupError([Problem(_WHERE, what)], exit_code=1) from error

    def _token(self, config: str) -> Any:
        answer = self._function(config)
        if not isinstance(answer, tuple) or len(answer) < 2 or not isinstance(answer[0], str):
            raise TypeError(f"returned a {type(answer).__name__}")
        if not isinstance(answer[1], int | float) or answer[1] <= time.time():
            raise ValueError(f"returned a token that expired at {answer[1]!r}")
        return answer
