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
    """An API that speaks as OpenAI's does."""

    base_url: str = setting("https://api.openai.com/v1", "address of the API, OpenAI's or a compatible server's")
    model: str = setting("gpt-image-2.5-flare", "the API's name of the model")
    endpoint: str = setting(
        "auto",
        "images/variations takes no prompt; auto: variations for dall-e-2, edits for others",
        choices=("auto", "variations", "edits"),
    )
    size: int = setting(1024, "side in pixels of what is sent and asked for", min=64, max=4096)
    quality: str = setting("", "low, medium, high or what else the model takes; empty leaves it to the model")


@dataclass(frozen=True, kw_only=True)
class DiffusersSettings:
    """A pipeline of diffusers on this machine."""

    model: str = setting("", "Hub id or folder of a pipeline that varies images, or turns one into another")
    revision: str = setting("main", "branch, tag or commit of a Hub id")
    size: int = setting(512, "side in pixels that the pipeline works at", min=8, max=4096)
    num_inference_steps: int = setting(30, "denoising steps an image", min=1)
    guidance_scale: float = setting(3.0, "classifier-free guidance scale; 1 is none", min=0.0)
    strength: float = setting(0.5, "image-to-image only: 0 keeps the source, 1 forgets it", min=0.0, max=1.0)
    mixed_precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class RequestSettings:
    """How an API is asked, and how much at most; all may change when a job goes on."""

    max_requests: int = setting(0, "requests that a job may send in all, retries included; 0 is no limit", min=0)
    max_cost: float = setting(0.0, "what a job's requests may cost in all; 0 is no limit", min=0.0)
    price_per_request: float = setting(0.0, "price of one request", min=0.0)
    currency: str = setting("USD", "currency of the price")
    max_concurrency: int = setting(4, "requests under way at once", min=1, max=64)
    max_retries: int = setting(5, "repetitions of a request that failed", min=0)
    backoff: float = setting(1.0, "seconds before the first repetition, twice as many before each next", min=0.0)
    max_retry_after: float = setting(600.0, "longest wait in seconds that the API may ask for", min=0.0)
    timeout: float = setting(300.0, "seconds without a byte of answer after which a request is lost", min=0.1)
    api_key_env: str = setting("OPENAI_API_KEY", "environment variable that holds the API's key")


@dataclass(frozen=True, kw_only=True)
class ApiVariationConfig:
    """Settings of `api-variation`."""

    image: ImageSettings = ImageSettings()
    provider: str = setting("openai", "openai: an image API; diffusers: this machine", choices=("openai", "diffusers"))
    prompt: str = setting(PROMPT, "what is asked for, where a prompt is taken; {label} is the class name")
    openai: OpenAISettings = OpenAISettings()
    diffusers: DiffusersSettings = DiffusersSettings()
    requests: RequestSettings = RequestSettings()
