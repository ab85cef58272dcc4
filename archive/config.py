"""Settings: a TOML file, then the environment; every value checked, every unknown key named.

`config.toml` in the repository holds each of them with its default, and
`docs/configuration.md` lists them; a test compares the three.
"""

import difflib
import ipaddress
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from archive.sections import (
    ANYWHERE,
    DICOM_ROLES,
    WEB_ROLES,
    ArchiveSection,
    AuthSection,
    CommitmentSection,
    DimseSection,
    ForwardRule,
    HttpSection,
    IndexSection,
    LoggingSection,
    Network,
    Peer,
    RenderSection,
    Role,
    Service,
    StorageSection,
    ViewerSection,
)

__all__ = [
    "ANYWHERE",
    "DEFAULT_FILE",
    "DICOM_ROLES",
    "ENVIRONMENT_PREFIX",
    "WEB_ROLES",
    "ArchiveSection",
    "AuthSection",
    "CommitmentSection",
    "Config",
    "ConfigError",
    "DimseSection",
    "ForwardRule",
    "HttpSection",
    "IndexSection",
    "LoggingSection",
    "Network",
    "Peer",
    "RenderSection",
    "Role",
    "Service",
    "StorageSection",
    "ViewerSection",
    "is_loopback",
    "load_config",
]

ENVIRONMENT_PREFIX: Final = "FILEROOM_"
DEFAULT_FILE: Final = Path("config.toml")

# Settings that name a file: relative to the file they stand in.
_FILES: Final = {
    "auth": ("jwt_key_file",),
    "dimse": ("tls_certificate", "tls_key", "tls_client_ca", "tls_peer_ca"),
}


class ConfigError(Exception):
    """A setting is wrong; the text names it and says what would be right."""


class Config(BaseSettings):
    """Every setting of one archive; frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    archive: ArchiveSection = ArchiveSection()
    http: HttpSection = HttpSection()
    dimse: DimseSection = DimseSection()
    commitment: CommitmentSection = CommitmentSection()
    index: IndexSection = IndexSection()
    storage: StorageSection = StorageSection()
    auth: AuthSection = AuthSection()
    render: RenderSection = RenderSection()
    viewer: ViewerSection = ViewerSection()
    logging: LoggingSection = LoggingSection()

    @property
    def viewer_folder(self) -> Path:
        """Where the viewer lies."""
        return self.archive.data_dir / self.viewer.folder.expanduser()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose values are passed at construction."""
        return (env_settings, init_settings)


def load_config(path: Path | None = None) -> Config:
    """Read the settings.

    Parameters
    ----------
    path
        The TOML file; None: ``config.toml`` in the working directory, where there is one.

    Raises
    ------
    ConfigError
        If a key is unknown, a value wrong, or the archive would be open to strangers unsaid.
    """
    file = path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    values = _read_file(file) if file else {}
    _check_keys(values, str(file))
    _check_environment(os.environ)
    try:
        config = Config(**values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except SettingsError as error:
        raise ConfigError(_explain_environment(os.environ, error)) from error
    base = file.resolve().parent if file else Path.cwd()
    data_dir = base / config.archive.data_dir.expanduser()
    place = config.archive.model_copy(update={"data_dir": data_dir})
    config = config.model_copy(update={"archive": place} | _placed(config, base))
    _check_exposure(config)
    _check_tls(config.dimse)
    return config


def _placed(config: Config, base: Path) -> dict[str, BaseModel]:
    """Return the sections that name files, their paths made absolute."""
    placed: dict[str, BaseModel] = {}
    for section, keys in _FILES.items():
        model: BaseModel = getattr(config, section)
        named = {key: getattr(model, key) for key in keys}
        absolute = {k: str(base / Path(v).expanduser()) for k, v in named.items() if v}
        placed[section] = model.model_copy(update=absolute)
    return placed


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    for section, keys in values.items():
        _known(section, Config.model_fields, f"section [{section}] in {where}")
        model = Config.model_fields[section].annotation
        if isinstance(keys, Mapping) and isinstance(model, type):
            for key, value in keys.items():
                _known(key, model.model_fields, f"key {section}.{key} in {where}")
                _check_tables(model, key, value, f"[[{section}.{key}]] in {where}")


def _check_tables(model: type[BaseModel], key: str, value: object, where: str) -> None:
    """Check the keys of a list of tables, as `peers` is one."""
    of_list = next(iter(get_args(model.model_fields[key].annotation)), None)
    if not (isinstance(of_list, type) and issubclass(of_list, BaseModel)):
        return
    for table in value if isinstance(value, list) else ():
        for name in table if isinstance(table, Mapping) else ():
            _known(name, of_list.model_fields, f"key {name} of {where}")


def _check_environment(environment: Mapping[str, str]) -> None:
    for name in environment:
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        _known(section, Config.model_fields, f"environment variable {name}")
        model = Config.model_fields[section].annotation
        if separator and isinstance(model, type):
            _known(key.partition("__")[0], model.model_fields, f"environment variable {name}")


def _known(name: str, known: Iterable[str], what: str) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        raise ConfigError(f"{what} is unknown: {hint}")


def _explain(error: ValidationError) -> str:
    lines = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']} "
        f"(got {fault.get('input')!r})"
        for fault in error.errors()
    ]
    return "\n".join(lines)


def _explain_environment(environment: Mapping[str, str], error: SettingsError) -> str:
    # The library only names the section; what is wrong with it is text that is no JSON.
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        model = Config.model_fields[section].annotation
        annotation = getattr(model, "model_fields", {}).get(key)
        wants_list = annotation is None or isinstance(annotation.default, tuple)
        if wants_list and not _is_json(value):
            example = '["read"]' if key == "allow_anonymous" else "[...]" if key else "{...}"
            return f"environment variable {name} must be JSON, e.g. {example} (got {value!r})"
    return str(error)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _check_tls(dimse: DimseSection) -> None:
    speaks = dimse.tls != "off" or dimse.tls_port != 0
    if speaks and not dimse.tls_certificate:
        raise ConfigError(
            "[dimse] tls and tls_port need a certificate: set tls_certificate (and tls_key)"
        )
    if dimse.tls_client_certificates == "none":
        return
    asks = f"[dimse] tls_client_certificates = {dimse.tls_client_certificates!r}"
    if not speaks:
        raise ConfigError(f"{asks} has no effect while TLS is off: set tls or tls_port")
    if not dimse.tls_client_ca:
        raise ConfigError(f"{asks} needs tls_client_ca: whose certificates are good?")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_exposure(config: Config) -> None:
    faces = [("http", config.http.host)]
    if config.dimse.strangers and not config.dimse.require_identity:
        faces.append(("dimse", config.dimse.host))
    exposed = [
        f"[{section}] host = {host!r}" for section, host in faces if not is_loopback(host)
    ]
    if exposed and not config.auth.allow_anonymous:
        raise ConfigError(
            f"{' and '.join(exposed)} would open the archive to everyone who can reach it. "
            'Write out what strangers may do, e.g. [auth] allow_anonymous = ["read"] '
            '(or ["read", "write"] to let them store too), or listen on 127.0.0.1; for DICOM '
            "alone, [dimse] strangers = [] lets only known peers in"
        )
