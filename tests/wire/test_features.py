"""What a device knows besides (docs/link.md 7), with the 8 bytes of its handle written by hand."""

from __future__ import annotations

import pytest

from microrpc.wire.features import NONE, Feature, Features


def test_the_features_have_the_bits_of_the_specification() -> None:
    assert [(feature.name, feature.value) for feature in Feature] == [
        ("EVENTS", 1),
        ("RELIABLE", 2),
        ("PROGRESS", 4),
        ("CANCEL", 8),
        ("DESCRIBE", 16),
        ("MEMORY", 32),
    ]


def test_a_handle_has_version_features_timeout_and_hash_from_its_low_byte_on() -> None:
    features = Features(Feature.EVENTS | Feature.CANCEL, 0x1234, 0xDEADBEEF)
    assert features.handle.to_bytes(8, "little") == bytes.fromhex("01 09 3412 efbeadde")
    assert Features.from_handle(int.from_bytes(bytes.fromhex("01 09 3412 efbeadde"), "little")) == features


@pytest.mark.parametrize("handle", ["00 00 0000 00000000", "00 3f ffff ffffffff", "02 3f ffff ffffffff"])
def test_no_handle_and_another_version_are_no_features(handle: str) -> None:
    assert Features.from_handle(int.from_bytes(bytes.fromhex(handle), "little")) == Features(NONE, 0, 0)


def test_features_that_nobody_knows_yet_are_left_out() -> None:
    assert Features.from_handle(int.from_bytes(bytes.fromhex("01 c1 0000 00000000"), "little")).known == Feature.EVENTS
