"""Compiles the hot rooms with mypyc, from the same sources that run without it.

Without a C compiler, or with WORKQ_PURE=1 in the environment, nothing is compiled and everything works, slower.
All other metadata is in setup.cfg.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

HOT = [
    "workq/record.py",
    "workq/values.py",
    "workq/commands.py",
    "workq/replies.py",
    *sorted(glob("workq/engine/[a-z]*.py")),
    "workq/protocol/text.py",
    "workq/protocol/server.py",
    "workq/log/compaction.py",
    "workq/log/errors.py",
    "workq/log/filelog.py",
    "workq/log/records.py",
    "workq/log/replay.py",
    "workq/log/segments.py",
    "workq/commit.py",
    "workq/broker.py",
    "workq/tcp.py",
    "workq/run_queue.py",
    "workq/gateway.py",
    "workq/http/application.py",
    "workq/http/service.py",
    "workq/http/web/connection.py",
    "workq/http/web/request.py",
    "workq/http/web/response.py",
    "workq/http/web/router.py",
    "workq/http/names.py",
    "workq/http/nesting.py",
    "workq/http/fireworq/jobs.py",
    "workq/http/fireworq/numbers.py",
    "workq/http/fireworq/pushes.py",
    # Beside these, in modules of their own, are msgspec's structs: compiled they would not know the types of fields.
    "workq/dispatch/answer.py",
    "workq/dispatch/dispatcher.py",
    "workq/dispatch/figures.py",
    "workq/dispatch/http_client.py",
    "workq/dispatch/request.py",
    "workq/dispatch/sender.py",
]
# Of mypy, where only what pyproject.toml requires for building is installed.
OPTIONS = ["--ignore-missing-imports", "--no-warn-unused-ignores"]


def extensions() -> list[Extension]:
    """The compiled modules; none where they are not wanted or cannot be made."""
    if os.environ.get("WORKQ_PURE") == "1" or not {"bdist_wheel", "build_ext", "editable_wheel"} & set(sys.argv):
        return []
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        print(f"workq: no C compiler ({compiler}): installing pure Python, which is slower", file=sys.stderr)
        return []
    from mypyc.build import mypycify

    try:
        compiled: list[Extension] = mypycify([*OPTIONS, *HOT], opt_level="2", debug_level="0", group_name="workq")
    except SystemExit:
        print("workq: mypyc cannot compile it, see above: installing pure Python, which is slower", file=sys.stderr)
        return []
    for extension in compiled:
        extension.optional = True  # a compiler that fails is like none
        if os.name == "posix":  # functions that nobody else can see are inlined, and called without a detour
            extension.extra_compile_args = [*extension.extra_compile_args, "-fvisibility=hidden"]
    return compiled


setup(ext_modules=extensions())
