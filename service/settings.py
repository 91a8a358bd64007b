"""Every setting of every process, once. Environment variables `WARPLINE_...` or a `.env` file."""

from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """Frozen; each field's description is its documentation in `.env.example`."""

    model_config = SettingsConfigDict(
        env_prefix="WARPLINE_", env_file=".env", extra="ignore", frozen=True
    )

    # Where things are
    data_dir: Path = Field(
        Path(".warpline"), description="Database, objects and models of the embedded stack."
    )
    models_dir: Path | None = Field(None, description="Model folder; by default the shipped one.")
    database_url: str | None = Field(
        None, description="postgresql+psycopg://... ; by default SQLite in the data folder."
    )
    store_url: str | None = Field(
        None, description="s3://BUCKET/PREFIX ; by default a folder in the data folder."
    )
    s3_endpoint: str | None = Field(None, description="S3 server as the processes reach it.")
    s3_public_endpoint: str | None = Field(
        None, description="S3 server as clients reach it; presigned URLs carry this host."
    )
    s3_region: str = Field("us-east-1", description="S3 region.")
    s3_access_key: SecretStr | None = Field(None, description="S3 access key.")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret key.")
    redis_url: str | None = Field(
        None,
        description="redis://... : ring workers through Celery; else they poll the database.",
    )

    # Gateway
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    public_url: str | None = Field(
        None, description="The service's address as clients see it, for signed URLs."
    )
    api_keys: SecretStr | None = Field(
        None,
        description="NAME:SHA256HEX[,...] of the keys that may call. Needed off loopback.",
    )
    url_signing_key: SecretStr | None = Field(
        None,
        description="Secret for signed URLs of the file store; by default made in the data folder.",
    )
    allowed_url_hosts: str = Field(
        "", description="Hosts that inputs may be fetched from, comma separated; none by default."
    )
    cors_origins: str = Field(
        "", description="Origins of web pages that may call, comma separated."
    )

    # Archives
    pacs_file: Path | None = Field(
        None, description="TOML file that names the archives (PACS) to talk to, see docs/pacs.md."
    )
    pacs_store_h: float = Field(
        72, gt=0, description="How long results are offered again to an archive that is away."
    )

    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of the gRPC API, at the same address; 0 turns it off. By default off; "
        "`warpline up` takes the port after its own, or a free one.",
    )
    grpc_tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM) of the gRPC API; without one it is plain text."
    )
    grpc_tls_key: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    live_address: str | None = Field(
        None,
        description="HOST:PORT or unix:PATH where the gateway reaches the live process; "
        "by default it offers no live sessions, but `warpline up` starts one.",
    )
    live: bool = Field(True, description="Whether `warpline up` runs the live process.")

    # Limits
    max_body_mib: int = Field(64, ge=1, description="Largest multipart request.")
    max_upload_mib: int = Field(2048, ge=1, description="Largest uploaded file.")
    max_voxels: int = Field(512**3, ge=1, description="Most voxels of one volume.")
    max_axis: int = Field(2048, ge=1, description="Most voxels along one axis.")
    max_queued_jobs: int = Field(
        10_000, ge=1, description="Queued jobs before new ones are refused."
    )
    max_jobs_per_key: int = Field(1_000, ge=1, description="Unfinished jobs of one key.")
    requests_per_minute: int = Field(1_200, ge=1, description="Requests of one key a minute.")
    body_idle_timeout_s: float = Field(
        30, gt=0, description="Silence of a sending client before 408."
    )
    header_timeout_s: float = Field(10, gt=0, description="Time for a client to send its headers.")
    min_free_mib: int = Field(
        1024, ge=0, description="Free disk below which new files are refused (507)."
    )

    # Jobs
    lease_s: float = Field(30, gt=0, description="A silent worker loses its job after this long.")
    reap_every_s: float = Field(
        5, gt=0, description="How often lost and forgotten jobs are looked for."
    )
    poll_every_s: float = Field(
        0.5,
        gt=0,
        description="How often an idle embedded worker looks for work that nobody on its machine "
        "rang for: of gateways elsewhere, or to be tried again later.",
    )
    max_attempts: int = Field(
        3, ge=1, description="Tries before a job that kills its workers is failed."
    )
    job_deadline_s: float = Field(
        3600, gt=0, description="Default time from submission to the end."
    )
    retention_h: float = Field(
        24 * 7, gt=0, description="How long a finished job and its files are kept."
    )
    upload_ttl_h: float = Field(24, gt=0, description="How long an unused upload is kept.")
    url_ttl_s: int = Field(900, ge=10, le=7 * 24 * 3600, description="Life of a result's URL.")

    # Training
    training: bool = Field(
        True, description="Whether POST /train is offered; somebody must serve the queue `train`."
    )
    max_dataset_mib: int = Field(
        8192, ge=1, description="Largest data set of a training, once unpacked."
    )
    max_dataset_files: int = Field(20_000, ge=1, description="Most files of one data set.")
    train_max_epochs: int = Field(10_000, ge=1, description="Most epochs of one training.")
    train_max_batch: int = Field(64, ge=1, description="Largest batch of one training.")
    train_max_hours: float = Field(
        48, gt=0, description="A training that takes longer in one run is stopped and fails."
    )
    train_memory_mib: int = Field(
        16_384, ge=64, description="A training that takes more memory is stopped and fails."
    )
    trainer_threads: int | None = Field(
        None, ge=1, description="CPU threads of one training; by default all cores."
    )

    # Workers
    workers: int = Field(1, ge=1, description="Worker processes of the embedded stack.")
    threads: int | None = Field(
        None,
        ge=1,
        description="Threads of one worker, live process or command; by default all cores.",
    )
    queues: str = Field("interactive,batch", description="Queues that this worker serves.")
    provider: Literal["auto", "cpu", "openvino", "cuda"] = Field(
        "auto",
        description="Execution provider; `auto` takes CUDA, OpenVINO, CPU, what is installed.",
    )
    cuda_graphs: bool = Field(
        False,
        description="Workers on CUDA capture networks and steps of refinement on small lattices as "
        "CUDA graphs. For processes that have the GPU to themselves while they run one.",
    )
    max_engines: int = Field(
        4, ge=1, description="Models that a worker keeps in memory, those it used last."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Log level."
    )

    # Live sessions
    live_host: str = Field("127.0.0.1", description="Address that the live process listens on.")
    live_port: int = Field(8090, ge=0, le=65535, description="gRPC port of the live process.")
    live_http_port: int = Field(
        8091,
        ge=0,
        le=65535,
        description="Port of the live process for /healthz, /readyz and /metrics.",
    )
    live_model: str = Field("discrete", description="Model that the live process warms up.")
    live_max_sessions: int = Field(16, ge=1, description="Live sessions at a time.")
    live_sessions_per_key: int = Field(8, ge=1, description="Live sessions of one key at a time.")
    live_max_connections: int = Field(
        256, ge=1, description="Connections to the live process at a time."
    )
    live_max_voxels: int = Field(
        256**3, ge=1, description="Most voxels of a live session's reference or frame."
    )
    live_max_points: int = Field(10_000, ge=0, description="Most points of a live session.")
    live_memory_mib: int = Field(
        8192, ge=1, description="Memory for the volumes and answers of all live sessions."
    )
    live_memory_per_key_mib: int = Field(
        4096, ge=1, description="Memory for the volumes and answers of one key's live sessions."
    )
    live_ttl_s: float = Field(
        120, gt=0, description="How long a live session without a connection is kept."
    )
    live_idle_timeout_s: float = Field(
        20, gt=0, description="Silence after which a live connection is ended."
    )
    live_waiting_frames: int = Field(
        4, ge=1, le=64, description="Frames that may wait in a live session that answers every one."
    )
    live_kept_answers: int = Field(
        8, ge=1, le=256, description="Answers that a live session keeps for a reconnect."
    )
    live_kept_mib: int = Field(
        512, ge=1, description="Memory for those answers; with large ones fewer are kept."
    )

    # Privacy
    audit_file: Path | None = Field(
        None,
        description="Audit log of this machine, see docs/privacy.md; by default `audit.jsonl` in "
        "the data folder.",
    )
    audit_key: SecretStr | None = Field(
        None,
        description="Secret of the audit log's chain: without it nobody can write one that "
        "verifies.",
    )
    audit_required: bool = Field(
        False, description="Refuse what cannot be recorded; by default it goes on, and is counted."
    )
    audit_rotate_mib: int = Field(
        64, ge=1, description="Size at which the audit log goes on in a new file."
    )
    deidentification_key: SecretStr | None = Field(
        None,
        description="Secret that new UIDs and pseudonyms are made with where outputs are "
        "de-identified; by default a random one for each job.",
    )

    @property
    def deidentification_secret(self) -> bytes | None:
        """The key as bytes."""
        key = self.deidentification_key
        return None if key is None else key.get_secret_value().encode()

    @model_validator(mode="after")
    def _keys_before_open_doors(self) -> Self:
        for name in ("host", "live_host"):
            host = getattr(self, name)
            if host in LOOPBACK_HOSTS or self.api_keys is not None:
                continue
            raise ValueError(
                f"WARPLINE_{name.upper()} is {host}, reachable from other machines, and there are "
                "no API keys. Set WARPLINE_API_KEYS (`warpline keys new NAME` makes one) or listen "
                "on 127.0.0.1."
            )
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            raise ValueError("WARPLINE_GRPC_TLS_CERT and WARPLINE_GRPC_TLS_KEY go together.")
        if self.store_url is not None and not self.store_url.startswith(("s3://", "file://")):
            raise ValueError("WARPLINE_STORE_URL must start with s3:// or file://")
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether workers poll the database instead of listening to Celery."""
        return self.redis_url is None


@lru_cache
def settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
