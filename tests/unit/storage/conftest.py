import pytest

from deltavcs.storage import LocalStorage


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "s").mkdir()
    return LocalStorage(tmp_path / "s", sync=True)
