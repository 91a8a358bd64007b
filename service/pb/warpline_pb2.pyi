import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Delivery(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELIVERY_UNSPECIFIED: _ClassVar[Delivery]
    DELIVERY_URLS: _ClassVar[Delivery]
    DELIVERY_INLINE: _ClassVar[Delivery]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_EXPIRED: _ClassVar[JobState]

class VoxelType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOXEL_TYPE_UNSPECIFIED: _ClassVar[VoxelType]
    VOXEL_TYPE_UINT8: _ClassVar[VoxelType]
    VOXEL_TYPE_INT16: _ClassVar[VoxelType]
    VOXEL_TYPE_UINT16: _ClassVar[VoxelType]
    VOXEL_TYPE_INT32: _ClassVar[VoxelType]
    VOXEL_TYPE_FLOAT32: _ClassVar[VoxelType]
    VOXEL_TYPE_FLOAT16: _ClassVar[VoxelType]

class ReferenceRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFERENCE_ROLE_UNSPECIFIED: _ClassVar[ReferenceRole]
    REFERENCE_ROLE_FIXED: _ClassVar[ReferenceRole]
    REFERENCE_ROLE_MOVING: _ClassVar[ReferenceRole]

class FramePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_POLICY_UNSPECIFIED: _ClassVar[FramePolicy]
    FRAME_POLICY_LATEST: _ClassVar[FramePolicy]
    FRAME_POLICY_EVERY: _ClassVar[FramePolicy]

class FieldOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIELD_OUTPUT_UNSPECIFIED: _ClassVar[FieldOutput]
    FIELD_OUTPUT_NONE: _ClassVar[FieldOutput]
    FIELD_OUTPUT_FULL: _ClassVar[FieldOutput]
    FIELD_OUTPUT_HALF: _ClassVar[FieldOutput]

class VoxelTarget(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOXEL_TARGET_UNSPECIFIED: _ClassVar[VoxelTarget]
    VOXEL_TARGET_REFERENCE: _ClassVar[VoxelTarget]
    VOXEL_TARGET_LABELS: _ClassVar[VoxelTarget]
    VOXEL_TARGET_MASK: _ClassVar[VoxelTarget]
    VOXEL_TARGET_FRAME: _ClassVar[VoxelTarget]
    VOXEL_TARGET_FIELD: _ClassVar[VoxelTarget]
    VOXEL_TARGET_WARPED_IMAGE: _ClassVar[VoxelTarget]
    VOXEL_TARGET_WARPED_LABELS: _ClassVar[VoxelTarget]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_PASS: _ClassVar[Verdict]
    VERDICT_WARN: _ClassVar[Verdict]
    VERDICT_FAIL: _ClassVar[Verdict]
DELIVERY_UNSPECIFIED: Delivery
DELIVERY_URLS: Delivery
DELIVERY_INLINE: Delivery
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_EXPIRED: JobState
VOXEL_TYPE_UNSPECIFIED: VoxelType
VOXEL_TYPE_UINT8: VoxelType
VOXEL_TYPE_INT16: VoxelType
VOXEL_TYPE_UINT16: VoxelType
VOXEL_TYPE_INT32: VoxelType
VOXEL_TYPE_FLOAT32: VoxelType
VOXEL_TYPE_FLOAT16: VoxelType
REFERENCE_ROLE_UNSPECIFIED: ReferenceRole
REFERENCE_ROLE_FIXED: ReferenceRole
REFERENCE_ROLE_MOVING: ReferenceRole
FRAME_POLICY_UNSPECIFIED: FramePolicy
FRAME_POLICY_LATEST: FramePolicy
FRAME_POLICY_EVERY: FramePolicy
FIELD_OUTPUT_UNSPECIFIED: FieldOutput
FIELD_OUTPUT_NONE: FieldOutput
FIELD_OUTPUT_FULL: FieldOutput
FIELD_OUTPUT_HALF: FieldOutput
VOXEL_TARGET_UNSPECIFIED: VoxelTarget
VOXEL_TARGET_REFERENCE: VoxelTarget
VOXEL_TARGET_LABELS: VoxelTarget
VOXEL_TARGET_MASK: VoxelTarget
VOXEL_TARGET_FRAME: VoxelTarget
VOXEL_TARGET_FIELD: VoxelTarget
VOXEL_TARGET_WARPED_IMAGE: VoxelTarget
VOXEL_TARGET_WARPED_LABELS: VoxelTarget
VERDICT_UNSPECIFIED: Verdict
VERDICT_PASS: Verdict
VERDICT_WARN: Verdict
VERDICT_FAIL: Verdict

class FileReference(_message.Message):
    __slots__ = ("upload_id", "url", "pacs")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    PACS_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    url: str
    pacs: PacsSeries
    def __init__(self, upload_id: _Optional[str] = ..., url: _Optional[str] = ..., pacs: _Optional[_Union[PacsSeries, _Mapping]] = ...) -> None: ...

class PacsSeries(_message.Message):
    __slots__ = ("pacs", "study", "series")
    PACS_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    pacs: str
    study: str
    series: str
    def __init__(self, pacs: _Optional[str] = ..., study: _Optional[str] = ..., series: _Optional[str] = ...) -> None: ...

class FileStart(_message.Message):
    __slots__ = ("role", "size_bytes", "sha256", "upload_id")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    role: str
    size_bytes: int
    sha256: bytes
    upload_id: str
    def __init__(self, role: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ..., upload_id: _Optional[str] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("offset", "data", "crc32")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    crc32: int
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class FileOpened(_message.Message):
    __slots__ = ("role", "upload_id", "received_bytes", "expires_at")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    role: str
    upload_id: str
    received_bytes: int
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, role: _Optional[str] = ..., upload_id: _Optional[str] = ..., received_bytes: _Optional[int] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class FileReceived(_message.Message):
    __slots__ = ("upload_id", "received_bytes", "is_complete", "sha256")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    IS_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    received_bytes: int
    is_complete: bool
    sha256: bytes
    def __init__(self, upload_id: _Optional[str] = ..., received_bytes: _Optional[int] = ..., is_complete: _Optional[bool] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class InspectRequest(_message.Message):
    __slots__ = ("upload_id",)
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    def __init__(self, upload_id: _Optional[str] = ...) -> None: ...

class InspectResponse(_message.Message):
    __slots__ = ("format", "verdict", "volumes", "volume_count", "warnings")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    VOLUME_COUNT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    format: str
    verdict: str
    volumes: _containers.RepeatedCompositeFieldContainer[VolumeFacts]
    volume_count: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, format: _Optional[str] = ..., verdict: _Optional[str] = ..., volumes: _Optional[_Iterable[_Union[VolumeFacts, _Mapping]]] = ..., volume_count: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class VolumeFacts(_message.Message):
    __slots__ = ("number", "modality", "what", "datatype", "frame_of_reference", "shape", "spacing_mm", "affine", "orientation", "warnings", "problem_code", "problem_detail")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    FRAME_OF_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    ORIENTATION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_CODE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_DETAIL_FIELD_NUMBER: _ClassVar[int]
    number: int
    modality: str
    what: str
    datatype: str
    frame_of_reference: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    spacing_mm: _containers.RepeatedScalarFieldContainer[float]
    affine: _containers.RepeatedScalarFieldContainer[float]
    orientation: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    problem_code: str
    problem_detail: str
    def __init__(self, number: _Optional[int] = ..., modality: _Optional[str] = ..., what: _Optional[str] = ..., datatype: _Optional[str] = ..., frame_of_reference: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., spacing_mm: _Optional[_Iterable[float]] = ..., affine: _Optional[_Iterable[float]] = ..., orientation: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., problem_code: _Optional[str] = ..., problem_detail: _Optional[str] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: FileStart
    chunk: FileChunk
    def __init__(self, start: _Optional[_Union[FileStart, _Mapping]] = ..., chunk: _Optional[_Union[FileChunk, _Mapping]] = ...) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("opened", "received")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    opened: FileOpened
    received: FileReceived
    def __init__(self, opened: _Optional[_Union[FileOpened, _Mapping]] = ..., received: _Optional[_Union[FileReceived, _Mapping]] = ...) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("upload_id",)
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    def __init__(self, upload_id: _Optional[str] = ...) -> None: ...

class GetUploadResponse(_message.Message):
    __slots__ = ("upload_id", "size_bytes", "received", "expires_at")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    size_bytes: int
    received: FileReceived
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, upload_id: _Optional[str] = ..., size_bytes: _Optional[int] = ..., received: _Optional[_Union[FileReceived, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeleteUploadRequest(_message.Message):
    __slots__ = ("upload_id",)
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    def __init__(self, upload_id: _Optional[str] = ...) -> None: ...

class DeleteUploadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("queue", "priority", "deadline", "idempotency_key")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    queue: str
    priority: int
    deadline: _duration_pb2.Duration
    idempotency_key: str
    def __init__(self, queue: _Optional[str] = ..., priority: _Optional[int] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class RegisterOptions(_message.Message):
    __slots__ = ("model", "initialise", "refine", "interpolation", "label_interpolation", "fill", "seed", "allow_different_patients", "fixed_series", "moving_series", "deidentify")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INITIALISE_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    LABEL_INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DIFFERENT_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    FIXED_SERIES_FIELD_NUMBER: _ClassVar[int]
    MOVING_SERIES_FIELD_NUMBER: _ClassVar[int]
    DEIDENTIFY_FIELD_NUMBER: _ClassVar[int]
    model: str
    initialise: str
    refine: str
    interpolation: str
    label_interpolation: str
    fill: float
    seed: int
    allow_different_patients: bool
    fixed_series: str
    moving_series: str
    deidentify: bool
    def __init__(self, model: _Optional[str] = ..., initialise: _Optional[str] = ..., refine: _Optional[str] = ..., interpolation: _Optional[str] = ..., label_interpolation: _Optional[str] = ..., fill: _Optional[float] = ..., seed: _Optional[int] = ..., allow_different_patients: _Optional[bool] = ..., fixed_series: _Optional[str] = ..., moving_series: _Optional[str] = ..., deidentify: _Optional[bool] = ...) -> None: ...

class RegisterStart(_message.Message):
    __slots__ = ("options", "ticket", "inputs", "delivery", "wanted", "store_to")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FileReference
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FileReference, _Mapping]] = ...) -> None: ...
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    STORE_TO_FIELD_NUMBER: _ClassVar[int]
    options: RegisterOptions
    ticket: Ticket
    inputs: _containers.MessageMap[str, FileReference]
    delivery: Delivery
    wanted: _containers.RepeatedScalarFieldContainer[str]
    store_to: str
    def __init__(self, options: _Optional[_Union[RegisterOptions, _Mapping]] = ..., ticket: _Optional[_Union[Ticket, _Mapping]] = ..., inputs: _Optional[_Mapping[str, FileReference]] = ..., delivery: _Optional[_Union[Delivery, str]] = ..., wanted: _Optional[_Iterable[str]] = ..., store_to: _Optional[str] = ...) -> None: ...

class Submit(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("start", "file", "chunk", "submit")
    START_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    start: RegisterStart
    file: FileStart
    chunk: FileChunk
    submit: Submit
    def __init__(self, start: _Optional[_Union[RegisterStart, _Mapping]] = ..., file: _Optional[_Union[FileStart, _Mapping]] = ..., chunk: _Optional[_Union[FileChunk, _Mapping]] = ..., submit: _Optional[_Union[Submit, _Mapping]] = ...) -> None: ...

class JobAccepted(_message.Message):
    __slots__ = ("job", "is_replayed")
    JOB_FIELD_NUMBER: _ClassVar[int]
    IS_REPLAYED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    is_replayed: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., is_replayed: _Optional[bool] = ...) -> None: ...

class RegisterResult(_message.Message):
    __slots__ = ("job", "files")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    job: Job
    files: _containers.RepeatedCompositeFieldContainer[ResultFile]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., files: _Optional[_Iterable[_Union[ResultFile, _Mapping]]] = ...) -> None: ...

class ResultChunk(_message.Message):
    __slots__ = ("name", "offset", "data", "crc32")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    name: str
    offset: int
    data: bytes
    crc32: int
    def __init__(self, name: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("opened", "received", "accepted", "event", "result", "chunk")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    opened: FileOpened
    received: FileReceived
    accepted: JobAccepted
    event: JobEvent
    result: RegisterResult
    chunk: ResultChunk
    def __init__(self, opened: _Optional[_Union[FileOpened, _Mapping]] = ..., received: _Optional[_Union[FileReceived, _Mapping]] = ..., accepted: _Optional[_Union[JobAccepted, _Mapping]] = ..., event: _Optional[_Union[JobEvent, _Mapping]] = ..., result: _Optional[_Union[RegisterResult, _Mapping]] = ..., chunk: _Optional[_Union[ResultChunk, _Mapping]] = ...) -> None: ...

class WarpRequest(_message.Message):
    __slots__ = ("job_id", "inputs", "points_from", "interpolation", "label_interpolation", "fill", "ticket")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FileReference
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FileReference, _Mapping]] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FROM_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    LABEL_INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    inputs: _containers.MessageMap[str, FileReference]
    points_from: str
    interpolation: str
    label_interpolation: str
    fill: float
    ticket: Ticket
    def __init__(self, job_id: _Optional[str] = ..., inputs: _Optional[_Mapping[str, FileReference]] = ..., points_from: _Optional[str] = ..., interpolation: _Optional[str] = ..., label_interpolation: _Optional[str] = ..., fill: _Optional[float] = ..., ticket: _Optional[_Union[Ticket, _Mapping]] = ...) -> None: ...

class WarpResponse(_message.Message):
    __slots__ = ("job", "is_replayed")
    JOB_FIELD_NUMBER: _ClassVar[int]
    IS_REPLAYED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    is_replayed: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., is_replayed: _Optional[bool] = ...) -> None: ...

class TrainRequest(_message.Message):
    __slots__ = ("body_json", "idempotency_key")
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    body_json: str
    idempotency_key: str
    def __init__(self, body_json: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class TrainResponse(_message.Message):
    __slots__ = ("job", "is_replayed")
    JOB_FIELD_NUMBER: _ClassVar[int]
    IS_REPLAYED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    is_replayed: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., is_replayed: _Optional[bool] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "title", "detail", "field", "is_retryable", "retry_after")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    IS_RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    code: str
    title: str
    detail: str
    field: str
    is_retryable: bool
    retry_after: _duration_pb2.Duration
    def __init__(self, code: _Optional[str] = ..., title: _Optional[str] = ..., detail: _Optional[str] = ..., field: _Optional[str] = ..., is_retryable: _Optional[bool] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "kind", "state", "stage", "progress", "jobs_before", "time_left", "created_at", "started_at", "finished_at", "problem", "summary_json", "attempt", "queue", "priority", "is_cancel_requested", "deadline_at", "detail_json", "options_json", "store_job_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    JOBS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    IS_CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_JSON_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    STORE_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    state: JobState
    stage: str
    progress: float
    jobs_before: int
    time_left: _duration_pb2.Duration
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    problem: Problem
    summary_json: str
    attempt: int
    queue: str
    priority: int
    is_cancel_requested: bool
    deadline_at: _timestamp_pb2.Timestamp
    detail_json: str
    options_json: str
    store_job_id: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., stage: _Optional[str] = ..., progress: _Optional[float] = ..., jobs_before: _Optional[int] = ..., time_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., summary_json: _Optional[str] = ..., attempt: _Optional[int] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., is_cancel_requested: _Optional[bool] = ..., deadline_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., detail_json: _Optional[str] = ..., options_json: _Optional[str] = ..., store_job_id: _Optional[str] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("number", "at", "job", "type", "data_json")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    number: int
    at: _timestamp_pb2.Timestamp
    job: Job
    type: str
    data_json: str
    def __init__(self, number: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., type: _Optional[str] = ..., data_json: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "after_event")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_EVENT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_event: int
    def __init__(self, job_id: _Optional[str] = ..., after_event: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("event", "progress")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    event: JobEvent
    progress: Job
    def __init__(self, event: _Optional[_Union[JobEvent, _Mapping]] = ..., progress: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("states", "page_size", "page_token")
    STATES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[JobState]
    page_size: int
    page_token: str
    def __init__(self, states: _Optional[_Iterable[_Union[JobState, str]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class DeleteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResultFile(_message.Message):
    __slots__ = ("name", "size_bytes", "sha256", "media_type", "url", "url_expires_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    URL_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    sha256: bytes
    media_type: str
    url: str
    url_expires_at: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ..., media_type: _Optional[str] = ..., url: _Optional[str] = ..., url_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListResultsRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ListResultsResponse(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[ResultFile]
    def __init__(self, files: _Optional[_Iterable[_Union[ResultFile, _Mapping]]] = ...) -> None: ...

class DownloadResultRequest(_message.Message):
    __slots__ = ("job_id", "name", "offset", "length")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    name: str
    offset: int
    length: int
    def __init__(self, job_id: _Optional[str] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class DownloadResultResponse(_message.Message):
    __slots__ = ("file", "chunk")
    FILE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    file: ResultFile
    chunk: ResultChunk
    def __init__(self, file: _Optional[_Union[ResultFile, _Mapping]] = ..., chunk: _Optional[_Union[ResultChunk, _Mapping]] = ...) -> None: ...

class StoreResultRequest(_message.Message):
    __slots__ = ("job_id", "pacs", "idempotency_key")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PACS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    pacs: str
    idempotency_key: str
    def __init__(self, job_id: _Optional[str] = ..., pacs: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class StoreResultResponse(_message.Message):
    __slots__ = ("job", "is_replayed")
    JOB_FIELD_NUMBER: _ClassVar[int]
    IS_REPLAYED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    is_replayed: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., is_replayed: _Optional[bool] = ...) -> None: ...

class SubjectOrder(_message.Message):
    __slots__ = ("id", "inputs")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FileReference
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FileReference, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    inputs: _containers.MessageMap[str, FileReference]
    def __init__(self, id: _Optional[str] = ..., inputs: _Optional[_Mapping[str, FileReference]] = ...) -> None: ...

class CreateCohortRequest(_message.Message):
    __slots__ = ("inputs", "subjects", "options", "ticket")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FileReference
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FileReference, _Mapping]] = ...) -> None: ...
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.MessageMap[str, FileReference]
    subjects: _containers.RepeatedCompositeFieldContainer[SubjectOrder]
    options: RegisterOptions
    ticket: Ticket
    def __init__(self, inputs: _Optional[_Mapping[str, FileReference]] = ..., subjects: _Optional[_Iterable[_Union[SubjectOrder, _Mapping]]] = ..., options: _Optional[_Union[RegisterOptions, _Mapping]] = ..., ticket: _Optional[_Union[Ticket, _Mapping]] = ...) -> None: ...

class CreateCohortResponse(_message.Message):
    __slots__ = ("cohort", "is_replayed")
    COHORT_FIELD_NUMBER: _ClassVar[int]
    IS_REPLAYED_FIELD_NUMBER: _ClassVar[int]
    cohort: Cohort
    is_replayed: bool
    def __init__(self, cohort: _Optional[_Union[Cohort, _Mapping]] = ..., is_replayed: _Optional[bool] = ...) -> None: ...

class StateCount(_message.Message):
    __slots__ = ("state", "jobs")
    STATE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    jobs: int
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., jobs: _Optional[int] = ...) -> None: ...

class Cohort(_message.Message):
    __slots__ = ("id", "subject_count", "counts", "has_ended", "progress", "time_left", "created_at", "options_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    HAS_ENDED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    subject_count: int
    counts: _containers.RepeatedCompositeFieldContainer[StateCount]
    has_ended: bool
    progress: float
    time_left: _duration_pb2.Duration
    created_at: _timestamp_pb2.Timestamp
    options_json: str
    def __init__(self, id: _Optional[str] = ..., subject_count: _Optional[int] = ..., counts: _Optional[_Iterable[_Union[StateCount, _Mapping]]] = ..., has_ended: _Optional[bool] = ..., progress: _Optional[float] = ..., time_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., options_json: _Optional[str] = ...) -> None: ...

class CohortSubject(_message.Message):
    __slots__ = ("id", "job_id", "figures_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FIGURES_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    job_id: str
    figures_json: str
    def __init__(self, id: _Optional[str] = ..., job_id: _Optional[str] = ..., figures_json: _Optional[str] = ...) -> None: ...

class GetCohortRequest(_message.Message):
    __slots__ = ("cohort_id",)
    COHORT_ID_FIELD_NUMBER: _ClassVar[int]
    cohort_id: str
    def __init__(self, cohort_id: _Optional[str] = ...) -> None: ...

class GetCohortResponse(_message.Message):
    __slots__ = ("cohort",)
    COHORT_FIELD_NUMBER: _ClassVar[int]
    cohort: Cohort
    def __init__(self, cohort: _Optional[_Union[Cohort, _Mapping]] = ...) -> None: ...

class ListCohortsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCohortsResponse(_message.Message):
    __slots__ = ("cohorts", "next_page_token")
    COHORTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cohorts: _containers.RepeatedCompositeFieldContainer[Cohort]
    next_page_token: str
    def __init__(self, cohorts: _Optional[_Iterable[_Union[Cohort, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListCohortSubjectsRequest(_message.Message):
    __slots__ = ("cohort_id",)
    COHORT_ID_FIELD_NUMBER: _ClassVar[int]
    cohort_id: str
    def __init__(self, cohort_id: _Optional[str] = ...) -> None: ...

class ListCohortSubjectsResponse(_message.Message):
    __slots__ = ("subjects",)
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    subjects: _containers.RepeatedCompositeFieldContainer[CohortSubject]
    def __init__(self, subjects: _Optional[_Iterable[_Union[CohortSubject, _Mapping]]] = ...) -> None: ...

class DownloadCohortRequest(_message.Message):
    __slots__ = ("cohort_id", "name")
    COHORT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    cohort_id: str
    name: str
    def __init__(self, cohort_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DownloadCohortResponse(_message.Message):
    __slots__ = ("file", "chunk")
    FILE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    file: ResultFile
    chunk: ResultChunk
    def __init__(self, file: _Optional[_Union[ResultFile, _Mapping]] = ..., chunk: _Optional[_Union[ResultChunk, _Mapping]] = ...) -> None: ...

class CancelCohortRequest(_message.Message):
    __slots__ = ("cohort_id",)
    COHORT_ID_FIELD_NUMBER: _ClassVar[int]
    cohort_id: str
    def __init__(self, cohort_id: _Optional[str] = ...) -> None: ...

class CancelCohortResponse(_message.Message):
    __slots__ = ("cohort",)
    COHORT_FIELD_NUMBER: _ClassVar[int]
    cohort: Cohort
    def __init__(self, cohort: _Optional[_Union[Cohort, _Mapping]] = ...) -> None: ...

class DeleteCohortRequest(_message.Message):
    __slots__ = ("cohort_id",)
    COHORT_ID_FIELD_NUMBER: _ClassVar[int]
    cohort_id: str
    def __init__(self, cohort_id: _Optional[str] = ...) -> None: ...

class DeleteCohortResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "aliases", "sha256", "card_json", "source", "job_id", "created_at", "comparison_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    CARD_JSON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    sha256: str
    card_json: str
    source: str
    job_id: str
    created_at: _timestamp_pb2.Timestamp
    comparison_json: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., sha256: _Optional[str] = ..., card_json: _Optional[str] = ..., source: _Optional[str] = ..., job_id: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comparison_json: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class PromoteModelRequest(_message.Message):
    __slots__ = ("name", "version", "force", "alias")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    force: bool
    alias: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., force: _Optional[bool] = ..., alias: _Optional[str] = ...) -> None: ...

class PromoteModelResponse(_message.Message):
    __slots__ = ("version", "previous_version", "model")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    version: str
    previous_version: str
    model: Model
    def __init__(self, version: _Optional[str] = ..., previous_version: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class RollBackModelRequest(_message.Message):
    __slots__ = ("name", "alias", "away_from")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    AWAY_FROM_FIELD_NUMBER: _ClassVar[int]
    name: str
    alias: str
    away_from: str
    def __init__(self, name: _Optional[str] = ..., alias: _Optional[str] = ..., away_from: _Optional[str] = ...) -> None: ...

class RollBackModelResponse(_message.Message):
    __slots__ = ("version", "model")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    version: str
    model: Model
    def __init__(self, version: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class DeleteModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FileAddress(_message.Message):
    __slots__ = ("url", "path")
    URL_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    url: str
    path: str
    def __init__(self, url: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class BucketListing(_message.Message):
    __slots__ = ("bucket_url", "prefix")
    BUCKET_URL_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    bucket_url: str
    prefix: str
    def __init__(self, bucket_url: _Optional[str] = ..., prefix: _Optional[str] = ...) -> None: ...

class CreateDatasetRequest(_message.Message):
    __slots__ = ("upload_id", "name", "urls", "listing")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    URLS_FIELD_NUMBER: _ClassVar[int]
    LISTING_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    name: str
    urls: _containers.RepeatedCompositeFieldContainer[FileAddress]
    listing: BucketListing
    def __init__(self, upload_id: _Optional[str] = ..., name: _Optional[str] = ..., urls: _Optional[_Iterable[_Union[FileAddress, _Mapping]]] = ..., listing: _Optional[_Union[BucketListing, _Mapping]] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("id", "name", "size_bytes", "files", "created_at", "sha256")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    size_bytes: int
    files: int
    created_at: _timestamp_pb2.Timestamp
    sha256: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., files: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sha256: _Optional[str] = ...) -> None: ...

class CreateDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: Dataset
    def __init__(self, dataset: _Optional[_Union[Dataset, _Mapping]] = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("dataset_id",)
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    def __init__(self, dataset_id: _Optional[str] = ...) -> None: ...

class GetDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: Dataset
    def __init__(self, dataset: _Optional[_Union[Dataset, _Mapping]] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next_page_token")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    next_page_token: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteDatasetRequest(_message.Message):
    __slots__ = ("dataset_id",)
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    def __init__(self, dataset_id: _Optional[str] = ...) -> None: ...

class DeleteDatasetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLimitsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLimitsResponse(_message.Message):
    __slots__ = ("limits_json", "max_chunk_bytes", "has_live")
    LIMITS_JSON_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    HAS_LIVE_FIELD_NUMBER: _ClassVar[int]
    limits_json: str
    max_chunk_bytes: int
    has_live: bool
    def __init__(self, limits_json: _Optional[str] = ..., max_chunk_bytes: _Optional[int] = ..., has_live: _Optional[bool] = ...) -> None: ...

class Grid(_message.Message):
    __slots__ = ("shape", "affine")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    affine: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., affine: _Optional[_Iterable[float]] = ...) -> None: ...

class ArrayHeader(_message.Message):
    __slots__ = ("grid", "voxel_type")
    GRID_FIELD_NUMBER: _ClassVar[int]
    VOXEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    grid: Grid
    voxel_type: VoxelType
    def __init__(self, grid: _Optional[_Union[Grid, _Mapping]] = ..., voxel_type: _Optional[_Union[VoxelType, str]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y", "z")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    z: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., z: _Optional[float] = ...) -> None: ...

class LiveOutputs(_message.Message):
    __slots__ = ("field", "warped_image", "warped_labels", "points", "rigid_only")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    WARPED_IMAGE_FIELD_NUMBER: _ClassVar[int]
    WARPED_LABELS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    RIGID_ONLY_FIELD_NUMBER: _ClassVar[int]
    field: FieldOutput
    warped_image: bool
    warped_labels: bool
    points: bool
    rigid_only: bool
    def __init__(self, field: _Optional[_Union[FieldOutput, str]] = ..., warped_image: _Optional[bool] = ..., warped_labels: _Optional[bool] = ..., points: _Optional[bool] = ..., rigid_only: _Optional[bool] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("role", "reference", "labels", "mask", "points", "frame", "initial_transform", "options", "budget_ms", "outputs", "policy", "warm_start", "session_id", "last_answer")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    INITIAL_TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    WARM_START_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ANSWER_FIELD_NUMBER: _ClassVar[int]
    role: ReferenceRole
    reference: ArrayHeader
    labels: ArrayHeader
    mask: ArrayHeader
    points: _containers.RepeatedCompositeFieldContainer[Point]
    frame: ArrayHeader
    initial_transform: _containers.RepeatedScalarFieldContainer[float]
    options: RegisterOptions
    budget_ms: int
    outputs: LiveOutputs
    policy: FramePolicy
    warm_start: bool
    session_id: str
    last_answer: int
    def __init__(self, role: _Optional[_Union[ReferenceRole, str]] = ..., reference: _Optional[_Union[ArrayHeader, _Mapping]] = ..., labels: _Optional[_Union[ArrayHeader, _Mapping]] = ..., mask: _Optional[_Union[ArrayHeader, _Mapping]] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., frame: _Optional[_Union[ArrayHeader, _Mapping]] = ..., initial_transform: _Optional[_Iterable[float]] = ..., options: _Optional[_Union[RegisterOptions, _Mapping]] = ..., budget_ms: _Optional[int] = ..., outputs: _Optional[_Union[LiveOutputs, _Mapping]] = ..., policy: _Optional[_Union[FramePolicy, str]] = ..., warm_start: _Optional[bool] = ..., session_id: _Optional[str] = ..., last_answer: _Optional[int] = ...) -> None: ...

class VoxelChunk(_message.Message):
    __slots__ = ("target", "frame", "offset", "data", "crc32")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    target: VoxelTarget
    frame: int
    offset: int
    data: bytes
    crc32: int
    def __init__(self, target: _Optional[_Union[VoxelTarget, str]] = ..., frame: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class FrameStart(_message.Message):
    __slots__ = ("number", "acquired_at", "affine", "voxel_type", "shape")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACQUIRED_AT_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    VOXEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    number: int
    acquired_at: _timestamp_pb2.Timestamp
    affine: _containers.RepeatedScalarFieldContainer[float]
    voxel_type: VoxelType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, number: _Optional[int] = ..., acquired_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., affine: _Optional[_Iterable[float]] = ..., voxel_type: _Optional[_Union[VoxelType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LiveRequest(_message.Message):
    __slots__ = ("open", "chunk", "frame", "credit", "heartbeat", "close")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    chunk: VoxelChunk
    frame: FrameStart
    credit: Credit
    heartbeat: Heartbeat
    close: Close
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., chunk: _Optional[_Union[VoxelChunk, _Mapping]] = ..., frame: _Optional[_Union[FrameStart, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "time_to_live", "is_resumed", "received_bytes", "credit", "last_frame", "idle_timeout")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LIVE_FIELD_NUMBER: _ClassVar[int]
    IS_RESUMED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    time_to_live: _duration_pb2.Duration
    is_resumed: bool
    received_bytes: int
    credit: int
    last_frame: int
    idle_timeout: _duration_pb2.Duration
    def __init__(self, session_id: _Optional[str] = ..., time_to_live: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., is_resumed: _Optional[bool] = ..., received_bytes: _Optional[int] = ..., credit: _Optional[int] = ..., last_frame: _Optional[int] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("expected_p50_ms", "expected_p95_ms", "preparation_ms", "warnings")
    EXPECTED_P50_MS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_P95_MS_FIELD_NUMBER: _ClassVar[int]
    PREPARATION_MS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    expected_p50_ms: float
    expected_p95_ms: float
    preparation_ms: float
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, expected_p50_ms: _Optional[float] = ..., expected_p95_ms: _Optional[float] = ..., preparation_ms: _Optional[float] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("name", "ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ms: float
    def __init__(self, name: _Optional[str] = ..., ms: _Optional[float] = ...) -> None: ...

class Motion(_message.Message):
    __slots__ = ("shift_mm", "rotation_deg", "median_mm", "max_mm")
    SHIFT_MM_FIELD_NUMBER: _ClassVar[int]
    ROTATION_DEG_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_MM_FIELD_NUMBER: _ClassVar[int]
    MAX_MM_FIELD_NUMBER: _ClassVar[int]
    shift_mm: Point
    rotation_deg: float
    median_mm: float
    max_mm: float
    def __init__(self, shift_mm: _Optional[_Union[Point, _Mapping]] = ..., rotation_deg: _Optional[float] = ..., median_mm: _Optional[float] = ..., max_mm: _Optional[float] = ...) -> None: ...

class FrameAnswer(_message.Message):
    __slots__ = ("number", "acquired_at", "latency_ms", "stages", "verdict", "reasons", "motion", "affine", "rigid", "points", "similarity_before", "similarity_after", "dropped", "arrays", "is_cut_short")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACQUIRED_AT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    RIGID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_AFTER_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_SHORT_FIELD_NUMBER: _ClassVar[int]
    number: int
    acquired_at: _timestamp_pb2.Timestamp
    latency_ms: float
    stages: _containers.RepeatedCompositeFieldContainer[StageTime]
    verdict: Verdict
    reasons: _containers.RepeatedScalarFieldContainer[str]
    motion: Motion
    affine: _containers.RepeatedScalarFieldContainer[float]
    rigid: _containers.RepeatedScalarFieldContainer[float]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    similarity_before: float
    similarity_after: float
    dropped: int
    arrays: _containers.RepeatedCompositeFieldContainer[AnswerArray]
    is_cut_short: bool
    def __init__(self, number: _Optional[int] = ..., acquired_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., latency_ms: _Optional[float] = ..., stages: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reasons: _Optional[_Iterable[str]] = ..., motion: _Optional[_Union[Motion, _Mapping]] = ..., affine: _Optional[_Iterable[float]] = ..., rigid: _Optional[_Iterable[float]] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., similarity_before: _Optional[float] = ..., similarity_after: _Optional[float] = ..., dropped: _Optional[int] = ..., arrays: _Optional[_Iterable[_Union[AnswerArray, _Mapping]]] = ..., is_cut_short: _Optional[bool] = ...) -> None: ...

class AnswerArray(_message.Message):
    __slots__ = ("target", "header")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    target: VoxelTarget
    header: ArrayHeader
    def __init__(self, target: _Optional[_Union[VoxelTarget, str]] = ..., header: _Optional[_Union[ArrayHeader, _Mapping]] = ...) -> None: ...

class FramesDropped(_message.Message):
    __slots__ = ("numbers",)
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    numbers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, numbers: _Optional[_Iterable[int]] = ...) -> None: ...

class FrameRefused(_message.Message):
    __slots__ = ("number", "problem")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    number: int
    problem: Problem
    def __init__(self, number: _Optional[int] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class SessionClosed(_message.Message):
    __slots__ = ("problem", "is_kept")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    IS_KEPT_FIELD_NUMBER: _ClassVar[int]
    problem: Problem
    is_kept: bool
    def __init__(self, problem: _Optional[_Union[Problem, _Mapping]] = ..., is_kept: _Optional[bool] = ...) -> None: ...

class LiveResponse(_message.Message):
    __slots__ = ("opened", "ready", "answer", "chunk", "dropped", "refused", "credit", "heartbeat", "closed")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    ready: Ready
    answer: FrameAnswer
    chunk: VoxelChunk
    dropped: FramesDropped
    refused: FrameRefused
    credit: Credit
    heartbeat: Heartbeat
    closed: SessionClosed
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., answer: _Optional[_Union[FrameAnswer, _Mapping]] = ..., chunk: _Optional[_Union[VoxelChunk, _Mapping]] = ..., dropped: _Optional[_Union[FramesDropped, _Mapping]] = ..., refused: _Optional[_Union[FrameRefused, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., closed: _Optional[_Union[SessionClosed, _Mapping]] = ...) -> None: ...
