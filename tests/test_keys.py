"""Keys: what a file holds is loaded or refused by name, and a key opens what was sealed to it and nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, mlkem, x25519
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Misconfigured
from relay.keys import RecipientKey, SealingAlgorithm, SealingKey, SigningKey, StorageKey, VerifyKey, key_id, write_private

SUITES: tuple[SealingAlgorithm, ...] = get_args(SealingAlgorithm)
SEALING = {suite: SealingKey.generate(suite) for suite in SUITES}


def pem(private: Any, password: bytes | None = None) -> bytes:
    """Return a private key as PEM."""
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    raw: bytes = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return raw


def refusal(kind: Any, path: Path) -> str:
    """Return the code with which a key file is refused; its sentence names the file."""
    with pytest.raises(Misconfigured, match=path.name) as caught:
        kind.load(path)
    return caught.value.code


def test_a_keys_name_is_pinned() -> None:
    """32 hex digits of SHA-256 over the algorithm, a zero byte and the raw key, so bytes of two algorithms are two keys."""
    assert key_id("ed25519", bytes(32)) == "8819001b0f625268cbf74431b52cb992"
    assert key_id("x25519", bytes(32)) != key_id("ed25519", bytes(32))


def test_a_signing_key_comes_back_from_its_file(tmp_path: Path) -> None:
    """Saved and loaded, a key signs what its public half verifies."""
    key = SigningKey.generate()
    key.save(tmp_path / "key.pem")
    again = SigningKey.load(tmp_path / "key.pem")
    assert (again.id, again.public) == (key.id, key.public)
    assert VerifyKey(key.public).verifies(again.sign(b"purpose\0", b"data"), b"purpose\0", b"data")


@pytest.mark.parametrize("suite", SUITES)
def test_a_sealing_key_comes_back_from_its_file(suite: SealingAlgorithm, tmp_path: Path) -> None:
    """Saved and loaded, a key of either suite opens what was sealed to its public half."""
    SEALING[suite].save(tmp_path / "key.pem")
    again = SealingKey.load(tmp_path / "key.pem")
    assert (again.algorithm, again.id, again.public) == (suite, SEALING[suite].id, SEALING[suite].public)
    recipient = RecipientKey(suite, again.public)
    assert recipient.id == again.id
    assert again.unwrap(recipient.wrap(bytes(32), b"info"), b"info") == bytes(32)


def test_key_files_are_for_their_owner_and_never_replaced(tmp_path: Path) -> None:
    """A key is written with mode 0600, and a second time not at all."""
    for name, key in {"signing": SigningKey.generate(), "sealing": SEALING["x25519"], "storage": StorageKey.generate()}.items():
        key.save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError):
            key.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def public() -> bytes:
    """Return a public key as PEM."""
    key = ed448.Ed448PrivateKey.generate().public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


NO_SIGNING_KEY = {
    "nothing": b"",
    "no PEM": b"secret",
    "PEM around nothing": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "a key of another curve": pem(ed448.Ed448PrivateKey.generate()),
    "a key for another use": pem(x25519.X25519PrivateKey.generate()),
    "a public key": public(),
}


@pytest.mark.parametrize("name", NO_SIGNING_KEY)
def test_what_is_no_signing_key_is_refused_by_name(name: str, tmp_path: Path) -> None:
    """Whatever the file holds, the answer is one code and a sentence with the file's name."""
    write_private(tmp_path / "key.pem", NO_SIGNING_KEY[name])
    assert refusal(SigningKey, tmp_path / "key.pem") == "bad-key-file"
    assert refusal(SigningKey, tmp_path / "missing.pem") == "bad-key-file"


def test_a_file_of_two_signing_keys_is_refused(tmp_path: Path) -> None:
    """No choice is made in silence."""
    for name in ("one", "two"):
        SigningKey.generate().save(tmp_path / name)
    write_private(tmp_path / "both", (tmp_path / "one").read_bytes() + (tmp_path / "two").read_bytes())
    assert refusal(SigningKey, tmp_path / "both") == "bad-key-file"


def test_what_is_no_sealing_key_is_refused_by_name(tmp_path: Path) -> None:
    """Half a hybrid key, its halves in the other order, another curve, a password: none of them loads."""
    lattice, classic = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    for name, content in {
        "empty": b"",
        "half": pem(lattice),
        "turned": pem(classic) + pem(lattice),
        "three": pem(lattice) + pem(classic) + pem(classic),
        "curve": pem(ec.generate_private_key(ec.SECP256R1())),
        "locked": pem(classic, b"password"),
    }.items():
        write_private(tmp_path / name, content)
        assert refusal(SealingKey, tmp_path / name) == "bad-key-file"


def test_an_encrypted_key_is_refused_in_words_of_its_own(tmp_path: Path) -> None:
    """A node has nobody to ask for a passphrase; the sentence says so, instead of calling the file no key."""
    write_private(tmp_path / "key.pem", pem(x25519.X25519PrivateKey.generate(), b"password"))
    with pytest.raises(Misconfigured, match=r"key.pem is encrypted, and a node has nobody to ask"):
        SealingKey.load(tmp_path / "key.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
@pytest.mark.parametrize("kind", [SigningKey, SealingKey, StorageKey])
def test_a_key_that_others_may_use_is_refused(kind: Any, mode: int, tmp_path: Path) -> None:
    """What the group or the world may read or write is no secret any more; with 0600 or 0400 it loads."""
    kind.generate().save(tmp_path / "it.key")
    (tmp_path / "it.key").chmod(mode)
    with pytest.raises(Misconfigured, match=f"{mode:04o}") as caught:
        kind.load(tmp_path / "it.key")
    assert caught.value.code == "key-file-exposed"
    for good in (0o600, 0o400):
        (tmp_path / "it.key").chmod(good)
        assert kind.load(tmp_path / "it.key")


@pytest.mark.parametrize("kind", [SigningKey, SealingKey, StorageKey])
def test_the_mode_of_a_credential_is_the_service_managers(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In $CREDENTIALS_DIRECTORY a key may be readable for a group; the same file elsewhere may not."""
    for folder in ("credentials", "elsewhere"):
        (tmp_path / folder).mkdir()
        kind.generate().save(tmp_path / folder / "it.key")
        (tmp_path / folder / "it.key").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert kind.load(tmp_path / "credentials" / "it.key")
    assert refusal(kind, tmp_path / "elsewhere" / "it.key") == "key-file-exposed"


@settings(deadline=None)
@given(st.binary(max_size=1300), st.sampled_from(SUITES))
def test_no_bytes_unwrap_by_chance_or_fail_otherwise(raw: bytes, suite: SealingAlgorithm) -> None:
    """Whatever stands in place of a wrapped key, the answer is that it does not open."""
    assert SEALING[suite].unwrap(raw, b"info") is None


@pytest.mark.parametrize("suite", SUITES)
def test_a_wrap_opens_only_under_its_info_and_key(suite: SealingAlgorithm) -> None:
    """Other info, another key, another suite or one changed byte: nothing opens."""
    wrapped = RecipientKey(suite, SEALING[suite].public).wrap(bytes(32), b"info")
    assert SEALING[suite].unwrap(wrapped, b"other") is None
    assert SealingKey.generate(suite).unwrap(wrapped, b"info") is None
    for other in set(SUITES) - {suite}:
        assert SEALING[other].unwrap(wrapped, b"info") is None
    for at in (0, len(wrapped) // 2, len(wrapped) - 1):
        assert SEALING[suite].unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"info") is None


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000])
def test_a_signature_of_any_length_is_only_wrong(length: int) -> None:
    """No signature makes verification fail otherwise than by saying no."""
    assert not VerifyKey(SigningKey.generate().public).verifies(bytes(length), b"purpose\0", b"data")


def test_a_signature_holds_for_its_purpose_alone() -> None:
    """The prefix is part of what is signed."""
    key = SigningKey.generate()
    signature = key.sign(b"one\0", b"data")
    assert VerifyKey(key.public).verifies(signature, b"one\0", b"data")
    assert not VerifyKey(key.public).verifies(signature, b"two\0", b"data")
    assert not VerifyKey(SigningKey.generate().public).verifies(signature, b"one\0", b"data")


def test_a_content_key_at_rest_opens_under_its_storage_key_alone(tmp_path: Path) -> None:
    """Another storage key, or bytes that were damaged, are told apart from the right one."""
    key = StorageKey.generate()
    key.save(tmp_path / "storage.key")
    wrapped = key.wrap(bytes(32))
    assert len(wrapped) == 40
    assert StorageKey.load(tmp_path / "storage.key").unwrap(wrapped) == bytes(32)
    for wrong in (wrapped[:-1], wrapped + b"\0", bytes(40), b"", b"\0" * 7):
        with pytest.raises(Misconfigured) as caught:
            key.unwrap(wrong)
        assert caught.value.code == "wrong-storage-key"
    with pytest.raises(Misconfigured):
        StorageKey.generate().unwrap(wrapped)


@pytest.mark.parametrize("content", [b"", b"AAAA", b"not base64!", b"A", b"\xff" * 40, base64.b64encode(bytes(33))])
def test_what_is_no_storage_key_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    """A file that does not hold 32 bytes in base64 is refused with its name."""
    write_private(tmp_path / "storage.key", content)
    assert refusal(StorageKey, tmp_path / "storage.key") == "bad-key-file"
