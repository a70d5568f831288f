"""The provider that uploads: OpenAI's images API or a compatible one, through OpenAI's client."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medzoo.errors import ConfigError, MedzooError, ResourceError
from medzoo.toolkit.remote import RequestError, Service

if TYPE_CHECKING:
    from medzoo_api_variation.settings import OpenAISettings, RequestSettings

# Models with images/variations; the newer ones only edit.
_VARIATION_MODELS = ("dall-e-2",)
# Codes under which an account without money is refused, some as 429 as if waiting would help.
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_WORTH_REPEATING = (408, 409, 425, 429)
_DOWNLOADS = 3
# A run of so many characters of the key is taken for a piece of it.
_PIECE = 6


class OpenAIProvider:
    """Varies images by one request each, without retries: the caller counts what is charged."""

    def __init__(self, settings: OpenAISettings, requests: RequestSettings, *, prompt: str) -> None:
        self._settings, self._requests = settings, requests
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", requests.api_key_env):
            # What was given is not repeated: it may be the key itself.
            raise ConfigError(
                "requests.api_key_env is not the name of an environment variable",
                "put the key into a variable such as OPENAI_API_KEY, and give the variable's name",
            )
        self._host = _host_of(settings.base_url)
        self._endpoint = settings.endpoint
        if self._endpoint == "auto":
            self._endpoint = "variations" if settings.model in _VARIATION_MODELS else "edits"
        self._service = self._make_service(prompt)
        self._key = ""
        self._client: Any = None
        self._http: Any = None

    def _make_service(self, prompt: str) -> Service:
        requests, settings = self._requests, self._settings
        also_sent = f"the model's name, {settings.model}"
        if self._endpoint == "edits":
            also_sent = f"{also_sent}, and the prompt '{prompt}'"
        return Service(
            host=self._host,
            encrypted=urlsplit(settings.base_url).scheme == "https",
            also_sent=also_sent,
            image_size=settings.size,
            max_concurrency=requests.max_concurrency,
            max_retries=requests.max_retries,
            backoff=requests.backoff,
            max_retry_after=requests.max_retry_after,
            price_per_request=requests.price_per_request,
            currency=requests.currency,
            max_requests=requests.max_requests,
            max_cost=requests.max_cost,
        )

    @property
    def service(self) -> Service | None:
        """Return the API and its terms."""
        return self._service

    def connect(self) -> None:
        """Create a client with the key of the environment; send nothing. Raises: ConfigError."""
        if self._client is not None:
            return
        variable = self._requests.api_key_env
        self._key = os.environ.get(variable, "").strip()
        if not self._key:
            raise ConfigError(f"no key for {self._host}: ${variable} is not set", f"export {variable}=...")
        if not re.fullmatch(r"[!-~]+", self._key):
            raise ConfigError(f"${variable} is not an API key: it contains spaces or non-ASCII characters")
        try:
            import openai
        except ImportError as error:
            raise ConfigError("provider = openai needs the openai client", "pip install 'medzoo[api]'") from error

        timeout = openai.Timeout(self._requests.timeout, connect=min(30.0, self._requests.timeout))
        try:
            # A redirect would send the image to a host that the user has not confirmed.
            self._http = openai.DefaultHttpxClient(follow_redirects=False, timeout=timeout)
            self._client = openai.OpenAI(
                api_key=self._key,
                base_url=self._settings.base_url,
                max_retries=0,
                timeout=timeout,
                http_client=self._http,
            )
        except (ImportError, ValueError, OSError) as error:  # SOCKS without socksio, an unknown scheme, certificates
            raise ConfigError(
                f"no connection to {self._host} can be made: {str(error).splitlines()[0]}",
                "check ALL_PROXY, HTTPS_PROXY and SSL_CERT_FILE",
            ) from None

    def vary(self, image: bytes, prompt: str, *, seed: int, idempotency_key: str) -> bytes:
        """Send one request and return the bytes of the image file in its response; the API takes no seed.

        Raises:
            RequestError: this request gave no image.
            ConfigError, ResourceError: no other request can succeed either.
        """
        self.connect()
        answer = self._send(image, prompt, idempotency_key)
        if isinstance(answer, MedzooError):
            raise answer  # here and not where it was caught, so that no traceback shows the client's error, nor the key
        return self._image_of(answer)

    def _send(self, image: bytes, prompt: str, idempotency_key: str) -> bytes | MedzooError:
        """Return the body of the response, or the error."""
        import httpx2
        import openai

        size = self._settings.size
        fields = {"model": self._settings.model, "n": "1", "size": f"{size}x{size}"}
        if self._endpoint == "edits":
            fields["prompt"] = prompt
        if self._endpoint == "variations" or self._settings.model in _VARIATION_MODELS:
            fields["response_format"] = "b64_json"  # newer models give nothing else, and refuse to be asked
        if self._settings.quality:
            fields["quality"] = self._settings.quality
        try:
            # Not images.edit: both endpoints go one way, and images.create_variation warns at each call.
            response = self._client.post(
                f"/images/{self._endpoint}",
                cast_to=httpx2.Response,
                body=fields,
                files=[("image", ("image.png", image, "image/png"))],
                options={"headers": {"Content-Type": "multipart/form-data", "Idempotency-Key": idempotency_key}},
            )
        except openai.APIStatusError as error:
            return self._error_of(error.status_code, error.response.headers, error.body)
        except openai.APITimeoutError:
            return self._lost(f"no answer within {self._requests.timeout:g} seconds")
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                # Nothing was sent, so that nothing can be charged, nor can the reason hold the key.
                reason = f"cannot connect to {self._host}: {error.__cause__}"
                return RequestError(reason, outcome="refused", retryable=True)
            return self._lost("the connection broke")
        content: bytes = response.content
        return content

    def _lost(self, what: str) -> RequestError:
        return RequestError(f"{self._host}: {what}", outcome="lost", retryable=True)

    def _error_of(self, status: int, headers: Mapping[str, str], body: object) -> MedzooError:
        """Return the error for a response with an error status."""
        code, words = self._words(body)
        said = f"{self._host} answered HTTP {status}{words}"
        if status == 402 or code in _NO_MONEY:
            return ResourceError(said, "check the account's credit, then run the same command again")
        if status in (401, 403):
            return ConfigError(said, f"check the key in ${self._requests.api_key_env} and its permissions")
        if status in (404, 405):
            return ConfigError(said, "check openai.base_url, openai.model and openai.endpoint")
        if 300 <= status < 400:
            return ConfigError(f"{said}, a redirect, which images do not follow", "give the new openai.base_url")
        if status >= 500:
            return RequestError(said, outcome="failed", retryable=True, retry_after=retry_after_of(headers))
        retryable = status in _WORTH_REPEATING
        return RequestError(
            said, outcome="refused", retryable=retryable, retry_after=retry_after_of(headers) if retryable else 0.0
        )

    def _words(self, body: object) -> tuple[str, str]:
        """Return code and message of an error's body; the message is withheld if it contains a piece of the key."""
        inner = body.get("error", body) if isinstance(body, Mapping) else body
        values = inner if isinstance(inner, Mapping) else {"message": inner}
        code, message = str(values.get("code") or ""), str(values.get("message") or "")
        text = "".join(letter if letter.isprintable() else " " for letter in message)
        text = " ".join(text.split())[:300]
        if self._holds_key(message):
            return code, " (message withheld: it contains a piece of the key)"
        return code, f": {text}" if text else ""

    def _holds_key(self, text: str) -> bool:
        forms = (self._key, base64.b64encode(f"Bearer {self._key}".encode()).decode())
        return any(
            form[start : start + _PIECE].casefold() in text.casefold()
            for form in forms
            for start in range(max(1, len(form) - _PIECE + 1))
        )

    def _image_of(self, answer: bytes) -> bytes:
        """Return the bytes of the image in a response's JSON, or from its URL. Raises: RequestError."""
        try:
            entry = json.loads(answer)["data"][0]
            encoded, url = entry.get("b64_json"), entry.get("url")
            if encoded:
                return base64.b64decode(encoded, validate=True)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise RequestError(f"{self._host} answered with no image", outcome="failed", retryable=True) from None
        if isinstance(url, str) and urlsplit(url).scheme in ("http", "https"):
            return self._download(url)
        raise RequestError(f"{self._host} answered with no image", outcome="failed", retryable=True)

    def _download(self, url: str) -> bytes:
        """Download `url` without sending the key. Raises: RequestError."""
        import httpx2

        for attempt in range(_DOWNLOADS):
            try:
                response = self._http.get(url, follow_redirects=True).raise_for_status()
            except httpx2.HTTPError:
                time.sleep(self._requests.backoff * 2**attempt)
            else:
                content: bytes = response.content
                return content
        raise RequestError(
            f"{self._host} answered with the address of an image that cannot be fetched",
            outcome="failed",
            retryable=True,
        )


def retry_after_of(headers: Mapping[str, str]) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 without one."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return 0.0 if math.isnan(seconds) else max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return 0.0


def _host_of(base_url: str) -> str:
    """Return the host that images are sent to. Raises: ConfigError for an invalid URL, or one with credentials."""
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
    except ValueError:
        raise ConfigError("openai.base_url is not a URL", "write it as in https://api.openai.com/v1") from None
    if "@" in parts.netloc or parts.query:
        raise ConfigError("openai.base_url contains credentials or a query", "keys go into an environment variable")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("openai.base_url is not a URL", "write it as in https://api.openai.com/v1")
    return parts.netloc
