"""Settings of `api-variation`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import PRECISIONS, ImageSettings

PROMPT = (
    "Another medical image like this one, of class {label}: the same modality, anatomy, view and finding in another "
    "patient. No text, no markings."
)


@dataclass(frozen=True, kw_only=True)
class OpenAISettings:
    """An OpenAI-compatible image API."""

    base_url: str = setting("https://api.openai.com/v1", "URL of the API, OpenAI's or a compatible server's")
    model: str = setting("gpt-image-2.5-flare", "the API's name for the model")
    endpoint: str = setting(
        "auto",
        "images/variations takes no prompt; auto: variations for dall-e-2, edits for others",
        choices=("auto", "variations", "edits"),
    )
    size: int = setting(1024, "side in pixels of the image sent and of the image requested", min=64, max=4096)
    quality: str = setting("", "low, medium, high or another value the model accepts; empty: the model's default")


@dataclass(frozen=True, kw_only=True)
class DiffusersSettings:
    """A diffusers pipeline on this machine."""

    model: str = setting("", "Hub id or folder of an image-variation, image-to-image or text-to-image pipeline")
    revision: str = setting("main", "branch, tag or commit of a Hub id")
    size: int = setting(512, "side in pixels of the images in the pipeline", min=8, max=4096)
    num_inference_steps: int = setting(30, "denoising steps per image", min=1)
    guidance_scale: float = setting(3.0, "classifier-free guidance scale; 1 is none", min=0.0)
    strength: float = setting(0.5, "image-to-image only: 0 keeps the real image, 1 ignores it", min=0.0, max=1.0)
    mixed_precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class RequestSettings:
    """Requests to an API and their limits; all of these may be changed when a job resumes."""

    max_requests: int = setting(0, "maximum number of requests of a job, including retries; 0: no limit", min=0)
    max_cost: float = setting(0.0, "maximum cost of a job's requests; 0: no limit", min=0.0)
    price_per_request: float = setting(0.0, "price of one request", min=0.0)
    currency: str = setting("USD", "currency of the price")
    max_concurrency: int = setting(4, "maximum number of concurrent requests", min=1, max=64)
    max_retries: int = setting(5, "retries of a failed request", min=0)
    backoff: float = setting(1.0, "seconds before the first retry, doubled before each further one", min=0.0)
    max_retry_after: float = setting(600.0, "longest Retry-After in seconds that is honored", min=0.0)
    timeout: float = setting(300.0, "seconds without data before a request times out", min=0.1)
    api_key_env: str = setting("OPENAI_API_KEY", "environment variable that holds the API's key")


@dataclass(frozen=True, kw_only=True)
class ApiVariationConfig:
    """Settings of `api-variation`."""

    image: ImageSettings = ImageSettings()
    provider: str = setting("openai", "openai: an image API; diffusers: this machine", choices=("openai", "diffusers"))
    prompt: str = setting(PROMPT, "prompt, for models that take one; {label} is replaced by the class name")
    openai: OpenAISettings = OpenAISettings()
    diffusers: DiffusersSettings = DiffusersSettings()
    requests: RequestSettings = RequestSettings()
