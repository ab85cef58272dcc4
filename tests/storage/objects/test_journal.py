"""The journal of keys: it names what is outstanding, and does not grow with what is not."""

from storage.objects.journal import Journal


def keys_of(folder) -> set[str]:
    (file,) = folder.iterdir()
    return set(file.read_text().split())


def test_it_is_cut_back_to_what_is_outstanding_and_goes_on(tmp_path):
    journal = Journal(tmp_path)
    journal.add("objects/never-put")
    for number in range(20_000):
        journal.add(f"objects/{number}")
        journal.remove([f"objects/{number}"])
    journal.add("objects/last")
    assert {"objects/never-put", "objects/last"} <= keys_of(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 300_000
