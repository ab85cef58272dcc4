"""What the client of a bucket is told, by vendor; credentials are never among it."""

import pytest

from storage.objects.remote import Bucket
from storage.objects.settings import BucketSettings


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (
            BucketSettings(
                "s3://b/p", endpoint="https://s.example", region="r", checksum="none"
            ),
            {
                "endpoint": "https://s.example",
                "region": "r",
                "virtual_hosted_style_request": False,
                "disable_bulk_delete": True,
            },
        ),
        (
            BucketSettings("s3://b", path_style=False),
            {
                "virtual_hosted_style_request": True,
                "disable_bulk_delete": True,
                "checksum_algorithm": "SHA256",
            },
        ),
        (
            BucketSettings("az://b", endpoint="https://a.example"),
            {"endpoint": "https://a.example"},
        ),
        (
            BucketSettings("gs://b", endpoint="https://g.example"),
            {"base_url": "https://g.example"},
        ),
        (BucketSettings("gs://b"), {}),
    ],
)
def test_each_vendor_is_told_what_it_knows(settings, options):
    assert settings.options() == options


@pytest.mark.parametrize(
    ("url", "kind"),
    [("s3://b/p", "S3Store"), ("az://b/p", "AzureStore"), ("gs://b/p", "GCSStore")],
)
def test_the_client_library_takes_the_settings_of_each_vendor(url, kind, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "a")
    store = Bucket(BucketSettings(url, endpoint="https://e.example"))._store
    assert type(store).__name__ == kind
