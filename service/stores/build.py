"""The stores that the settings name: the one place where adapters are chosen."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.errors import WarplineError
from service.jobs.cohorts import CohortStore
from service.jobs.datasets import DatasetStore
from service.jobs.ports import BlobStore, Doorbell, JobStore, ModelRegistry, UploadStore
from service.settings import Settings
from service.stores.database import Database
from service.stores.doorbell import CeleryDoorbell, PollDoorbell
from service.stores.local_blobs import LocalBlobStore
from service.stores.migrate import database_of, migrate, require_schema
from service.stores.s3_blobs import Bucket, S3BlobStore
from service.stores.signing import UrlSigner, secret_in
from service.stores.sql_cohorts import SqlCohortStore
from service.stores.sql_datasets import SqlDatasetStore
from service.stores.sql_jobs import SqlJobStore
from service.stores.sql_models import SqlModelRegistry
from service.stores.sql_uploads import SqlUploadStore


@dataclass(frozen=True)
class Stores:
    """Everything outside that jobs need."""

    jobs: JobStore
    uploads: UploadStore
    models: ModelRegistry
    datasets: DatasetStore
    cohorts: CohortStore
    blobs: BlobStore
    doorbell: Doorbell
    database: Database
    signer: UrlSigner | None  # of the file store; S3 checks its own signatures

    def close(self) -> None:
        self.doorbell.close()
        self.database.close()


def open_stores(settings: Settings) -> Stores:
    """Open the stores; call it in the process that uses them.

    The embedded database is made or migrated on the way; another must have been migrated.

    Raises:
        ConfigurationError: If the database has another schema than this version's.
    """
    database = _database(settings)
    blobs = _blobs(settings)
    return Stores(
        jobs=SqlJobStore(database),
        uploads=SqlUploadStore(database),
        models=SqlModelRegistry(database),
        datasets=SqlDatasetStore(database),
        cohorts=SqlCohortStore(database),
        blobs=blobs,
        doorbell=_doorbell(settings),
        database=database,
        signer=blobs.signer if isinstance(blobs, LocalBlobStore) else None,
    )


def _database(settings: Settings) -> Database:
    database = database_of(settings)
    try:
        if database.is_sqlite:
            migrate(database)
        else:
            require_schema(database)
    except WarplineError:
        database.close()
        raise
    return database


def bell_folder(settings: Settings) -> Path:
    """Where the workers of this machine listen."""
    return settings.data_dir / "bells"


def _doorbell(settings: Settings) -> Doorbell:
    if settings.redis_url is None:
        return PollDoorbell(bell_folder(settings))
    return CeleryDoorbell(settings.redis_url)


def _blobs(settings: Settings) -> LocalBlobStore | S3BlobStore:
    url = urlsplit(settings.store_url or "")
    if url.scheme == "s3":
        return S3BlobStore(_bucket(settings))
    root = Path(unquote(url.path)) if url.scheme == "file" else settings.data_dir / "objects"
    return LocalBlobStore(root, _signer(settings))


def _bucket(settings: Settings) -> Bucket:
    url = urlsplit(settings.store_url or "")
    access, secret = settings.s3_access_key, settings.s3_secret_key
    return Bucket(
        name=url.netloc,
        prefix=url.path.strip("/"),
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        access_key=None if access is None else access.get_secret_value(),
        secret_key=None if secret is None else secret.get_secret_value(),
    )


def _signer(settings: Settings) -> UrlSigner:
    if settings.url_signing_key is not None:
        secret = settings.url_signing_key.get_secret_value().encode()
    else:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        secret = secret_in(settings.data_dir)
    return UrlSigner(secret, settings.public_url or f"http://{settings.host}:{settings.port}")
