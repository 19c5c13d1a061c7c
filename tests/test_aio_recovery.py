"""The asyncio client after doubt: the tests of tests/test_conversation.py, with their boards behind asyncio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import test_conversation
from apis import AsyncioApi
from test_conversation import *  # noqa: F403


@pytest.fixture(autouse=True)
def asyncio_opens_the_boards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    api = AsyncioApi()
    monkeypatch.setattr(test_conversation, "open_board", api.open_board)
    yield
    api.close()
