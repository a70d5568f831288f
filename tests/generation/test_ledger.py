"""The ledger: what it reserves, what it counts, and what it makes of a file that a crash or a full disk has left."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from medzoo.errors import DataError, ResourceError
from medzoo.generation.remote import ledger
from medzoo.generation.remote.ledger import LEDGER, Ledger, Usage, read_usage
from medzoo.toolkit.remote import Service


def terms(**given):
    """A service without limits, unless told otherwise."""
    fields = {"host": "h", "encrypted": True, "also_sent": "", "image_size": 64, "max_concurrency": 4, "max_retries": 0}
    fields |= {"backoff": 0.0, "max_retry_after": 0.0, "price_per_request": 0.1, "currency": "USD"}
    return Service(**{**fields, "max_requests": 0, "max_cost": 0.0, **given})


def reserve(open_ledger, file="a/1.png", **given):
    return open_ledger.reserve("gen", file, 7, terms=terms(**given))


@pytest.mark.parametrize(
    ("outcome", "charged", "same_key"),
    [("done", 1, False), ("failed", 1, False), ("lost", 1, True), ("refused", 0, False)],
)
def test_settle_outcomes(tmp_path, outcome, charged, same_key):
    with Ledger(tmp_path) as open_ledger:
        reservation = reserve(open_ledger)
        assert read_usage(tmp_path, "gen") == Usage(sent=1, charged=1)
        open_ledger.settle(reservation, outcome)
    assert read_usage(tmp_path, "gen") == Usage(sent=1, charged=charged)
    with Ledger(tmp_path) as open_ledger:
        assert (reserve(open_ledger).idempotency_key == reservation.idempotency_key) == same_key


def test_reserve_after_an_unsettled_request(tmp_path):
    with Ledger(tmp_path) as open_ledger:
        reservation = reserve(open_ledger)
    with Ledger(tmp_path) as open_ledger:
        assert read_usage(tmp_path, "gen").sent == 1
        with pytest.raises(ResourceError, match="max_requests = 1 is reached"):
            reserve(open_ledger, max_requests=1)
        assert reserve(open_ledger).idempotency_key == reservation.idempotency_key


def test_reserve_keys(tmp_path):
    keys = set()
    for job in ("one", "two"):
        (tmp_path / job).mkdir()
        with Ledger(tmp_path / job) as open_ledger:
            keys |= {reserve(open_ledger, file).idempotency_key for file in ("a/1.png", "b/1.png")}
    assert len(keys) == 4


def test_reserve_exact_cost(tmp_path):
    with Ledger(tmp_path) as open_ledger:
        for _ in range(3):
            reserve(open_ledger, max_cost=0.3)
        with pytest.raises(
            ResourceError, match=r"max_cost = 0.3 is reached: 3 requests were sent, for at most 0.3 USD"
        ):
            reserve(open_ledger, max_cost=0.3)


def test_reserve_in_threads(tmp_path):
    reserved = []

    def ask(number):
        for turn in range(20):
            try:
                reserved.append(reserve(open_ledger, f"a/{number}-{turn}.png", max_requests=25).number)
            except ResourceError:
                return

    with Ledger(tmp_path) as open_ledger:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(reserved) == list(range(1, 26))


def test_ledger_with_a_truncated_line(tmp_path):
    with Ledger(tmp_path) as open_ledger:
        reserve(open_ledger)
    path = tmp_path / LEDGER
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"sent": 2, "gen')
    assert read_usage(tmp_path, "gen").sent == 1
    with Ledger(tmp_path) as open_ledger:
        assert reserve(open_ledger).number == 2
    assert path.read_bytes().startswith(whole + b'{"sent": 2, "generator"')
    assert [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("line", [b"garbage", b"[]", b'{"settled": 9, "outcome": "done"}', b'{"sent": 2}', b'{"x": 1}'])
def test_ledger_damaged(tmp_path, line):
    with Ledger(tmp_path) as open_ledger:
        reserve(open_ledger)
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError, match="is damaged"), Ledger(tmp_path):
        pass
    with pytest.raises(DataError, match="is damaged"):
        read_usage(tmp_path, "gen")


def test_ledger_of_two_processes(tmp_path):
    with Ledger(tmp_path), pytest.raises(ResourceError, match="another process"), Ledger(tmp_path):
        pass
    with Ledger(tmp_path):
        pass


@pytest.mark.parametrize("short", [True, False], ids=["half a line", "no line"])
def test_reserve_on_a_full_disk(tmp_path, monkeypatch, short):
    write = os.write

    def full(file, data):
        if short:
            return write(file, data[:10])
        raise OSError(errno.ENOSPC, "no space")

    with Ledger(tmp_path) as open_ledger:
        first = reserve(open_ledger)
        with monkeypatch.context() as patch:
            patch.setattr(ledger.os, "write", full)
            with pytest.raises(ResourceError, match="the disk is full"):
                reserve(open_ledger)
        assert read_usage(tmp_path, "gen").sent == 1
        open_ledger.settle(first, "done")
    assert read_usage(tmp_path, "gen").sent == 1


def test_read_usage_without_requests(tmp_path):
    assert read_usage(tmp_path / "nowhere", "gen").sent == 0
    assert not (tmp_path / "nowhere").exists()
