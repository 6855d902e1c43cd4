from __future__ import annotations

import os

import pytest

from edgekit.runtimes._native_output import caught_output


def test_what_native_code_prints_is_caught(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with caught_output() as caught:
        os.write(1, b"from native code, out\n")
        os.write(2, b"from native code, err\n")
    print("after")
    assert caught.text.splitlines() == ["from native code, out", "from native code, err"]
    out, err = capfd.readouterr()
    assert out.split() == ["before", "after"]
    assert err == ""


def test_an_exception_leaves_the_streams_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), caught_output():
        raise ValueError("inside")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
