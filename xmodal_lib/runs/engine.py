"""Has Snakemake run a plan, and says in a line at a time what happens.

Snakemake's own words go to results/.engine/engine.log. What a job says comes through files (so from another machine
too): results/.engine/events/<rule>.jsonl.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xmodal_lib.runs import report, run
from xmodal_lib.runs.plan import Job, Plan, read_yaml

HEARTBEAT = 30.0  # seconds without a word after which what runs is told
OWN = ("ext2/ext3", "xfs", "btrfs", "zfs", "tmpfs", "overlayfs")  # file systems of one machine, unless it exports them


@dataclass
class Outcome:
    """What became of a run: job names, and a reason where the engine itself could not go on."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # job -> where to look
    waiting: int = 0  # not started, because what they need failed
    trouble: str = ""
    index: Path | None = None

    @property
    def code(self) -> int:
        return 1 if self.failed or self.trouble else 0

    def then(self, later: Outcome) -> Outcome:
        """This run, and a later one of some of the jobs that were waiting."""
        waiting = max(0, self.waiting - len(later.done) - len(later.failed))
        return Outcome(self.done + later.done, self.failed | later.failed, waiting, self.trouble or later.trouble)


def reproduce(
    plan: Plan, targets: Iterable[str] = (), jobs: int = 0, engine: str = "local", say: Callable[[str], None] = print
) -> Outcome:
    """Run what is not done or not up to date, and write results/index.html, whatever became of it.

    Raises:
        ValueError: a target or engine profile is unknown, or another run has the results.
    """
    wanted, home = plan.select(targets), plan.results / ".engine"
    command = snakemake(plan, wanted, jobs, engine)
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home):
        shutil.rmtree(home / "events", ignore_errors=True)
        plan.save(home / "plan.json")
        if engine != "local" and (note := unshared(plan.results, _nodes())):
            say(note)
        outcome = _watch(plan, command, home, say)
        if outcome.failed and (late := reduced(plan, wanted)):
            say(f"{len(late)} to run on what there is: {', '.join(job.name for job in late)}")
            names = {job.name: job for job in late}
            less = replace(plan, jobs=tuple(names.get(job.name, job) for job in plan.jobs))
            less.save(home / "plan.json")
            shutil.rmtree(home / "events", ignore_errors=True)
            outcome = outcome.then(_watch(less, snakemake(less, late, jobs, engine), home, say))
        outcome.index = report.write(plan)
    return outcome


def reduced(plan: Plan, wanted: Sequence[Job]) -> list[Job]:
    """The wanted jobs (all, if none) that are `partial` and lack a part of a list they need, with what there is."""
    found = []
    for job in wanted or plan.jobs:
        there = {p: [f for f in files if (plan.results / f).is_file()] if isinstance(files, list) else files
                 for p, files in job.needs.items()}  # fmt: skip
        if job.partial and there != job.needs and all(there.values()):
            found.append(replace(job, needs=there))
    return found


def pending(plan: Plan, targets: Iterable[str] = (), engine: str = "local") -> dict[str, str]:
    """{job: why it would run}, without running any."""
    home = plan.results / ".engine"
    command = snakemake(plan, plan.select(targets), 1, engine)
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home):
        plan.save(home / "plan.json")
        result = subprocess.run(
            [*command[:3], "--dry-run", *command[3:]], capture_output=True, text=True, cwd=plan.results
        )
    if result.returncode:
        raise ValueError(f"the engine cannot plan: {(result.stderr or result.stdout).strip().splitlines()[-1]}")
    return reasons(plan, result.stdout + result.stderr)


def snakemake(plan: Plan, wanted: list[Job], jobs: int, engine: str) -> list[str]:
    """The command line of Snakemake.

    Raises:
        ValueError: there is no such engine profile, or what it needs is not on this machine.
    """
    profile = plan.root / "params" / "engine" / engine
    if engine != "local":
        check_engine(profile)
    count = str(jobs or os.cpu_count() or 1)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(Path(__file__).with_name("Snakefile"))]
    command += ["--directory", str(plan.results), "--config", f"plan={plan.results / '.engine' / 'plan.json'}"]
    command += ["--nolock", "--rerun-incomplete", "--keep-going", "--scheduler", "greedy", "--nocolor"]
    command += ["--rerun-triggers", "params", "input", "mtime"]
    if profile.is_dir():
        command += ["--profile", str(profile)]
    if engine == "local":
        command += ["--cores", count, "--force-use-threads", "--resources", f"gpu={_cards(plan)}"]
        command += ["--latency-wait", "15"]
    elif jobs:
        command += ["--jobs", count]
    return [*command, "--", *(job.done for job in wanted)] if wanted else command


def check_engine(profile: Path) -> None:
    """That an engine other than `local` can run from here.

    Raises:
        ValueError: there is no such profile, the executor that it names is not installed, or SLURM is not here.
    """
    if not profile.is_dir():
        raise ValueError(f"unknown engine {profile.name!r}: there is no params/engine/{profile.name}")
    settings = profile / "config.yaml"
    executor = read_yaml(settings).get("executor", "local") if settings.is_file() else "local"
    package = f"snakemake-executor-plugin-{executor}"
    if executor != "local" and importlib.util.find_spec(package.replace("-", "_")) is None:
        raise ValueError(f"engine {profile.name!r} needs the package {package}: pip install {package}")
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise ValueError(f"engine {profile.name!r}: there is no `sbatch` here; start it on a login node of the cluster")


def unshared(results: Path, nodes: Iterable[str]) -> str:
    """A note for a folder of results that these nodes may not see; "" where nothing speaks against it."""
    others = sorted(set(nodes) - {socket.gethostname().partition(".")[0]})
    kind = _words("stat", "--file-system", "--format=%T", str(results)).strip()
    if not others or kind not in OWN:
        return ""
    return f"note: {results} is on a disk of this machine ({kind}); jobs fail on {others[0]} unless it is there too"


def _nodes() -> list[str]:
    return _words("sinfo", "--noheader", "--format=%n").split() if shutil.which("sinfo") else []


def _words(*command: str) -> str:
    """What a command prints; "" where it is not here or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def reasons(plan: Plan, log: str) -> dict[str, str]:
    """{job: reason} from the words of a Snakemake dry run."""
    names, found, current = {job.rule: job.name for job in plan.jobs}, {}, ""
    for line in log.splitlines():
        if match := re.match(r"(?:local)?rule (\w+):", line):
            current = names.get(match[1], "")
        elif current and (match := re.match(r"\s+reason: (.*)", line)):
            found[current] = _plain(match[1])
    return found


def _plain(reason: str) -> str:
    known = {
        "Missing output": "has no results yet",
        "Params have changed": "its parameters or code changed",
        "Input files updated by": "what it needs runs again",
        "Updated input files": "what it needs changed",
        "Set of input files": "needs other files than before",
        "Incomplete": "was interrupted",
    }
    return "; ".join(dict.fromkeys(say for start, say in known.items() if start in reason)) or reason


def _watch(plan: Plan, command: list[str], home: Path, say: Callable[[str], None]) -> Outcome:
    """Start Snakemake and follow the events of its jobs until it ends."""
    progress = Progress(plan, home, say)
    log = home / "engine.log"
    with log.open("w", encoding="utf-8") as words:
        engine = subprocess.Popen(
            command, stdout=words, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=plan.results
        )
        (home / "pid").write_text(str(engine.pid), "utf-8")
        stopped = False
        while engine.poll() is None:
            try:
                time.sleep(0.2)
                progress.look()
            except KeyboardInterrupt:  # Snakemake was told too: it ends its jobs, then itself
                stopped = True
                say("stopping; what is done is kept")
        progress.look()
        (home / "pid").unlink(missing_ok=True)
    known = {} if stopped else lost(plan, log.read_text("utf-8"))
    for name in [*progress.running, *(name for name in known if name not in progress.number)]:
        reason = "was stopped" if stopped else known.get(name, "ended without a word: killed, or out of memory")
        if name not in progress.number and "ended" in reason:
            reason += f" before its notebook started ({_why(plan, plan[name].rule)})"
        where = run.keep_failed(plan.root, plan.results / name, reason, "")
        progress.end(name, f"FAILED: {reason}", _shown(plan, where if where.is_file() else where.parent))
    outcome = Outcome(progress.done, progress.failed)
    outcome.waiting = max(0, progress.total - len(progress.done) - len(progress.failed))
    if engine.returncode and not progress.failed:
        tail = [line for line in log.read_text("utf-8").splitlines() if line.strip()][-8:]
        outcome.trouble = (
            "stopped" if stopped else f"the engine failed (all of it in {_shown(plan, log)}):\n" + "\n".join(tail)
        )
    return outcome


def lost(plan: Plan, log: str) -> dict[str, str]:
    """{job: what SLURM did with it}, of the jobs that SLURM did not take or ended, from Snakemake's words."""
    names = {job.rule: job.name for job in plan.jobs}
    found = {}
    for rule, message in re.findall(r"(?m)^Error in rule (\w+):\n    message: SLURM((?:.|\n)*?)(?=^    \w+:)", log):
        refused = re.findall(r"sbatch: error: (.*?)'?\.?\n", message)
        ended = re.search(r"-job '(\S+)' failed, SLURM status is: '(\w+)'", message)
        if refused:
            found[names[rule]] = f"SLURM refused it: {'; '.join(refused)}"
        elif ended:
            found[names[rule]] = f"SLURM ended its job {ended[1]}: {ended[2].lower().replace('_', ' ')}"
    return found


def _why(plan: Plan, rule: str) -> str:
    """Where to look after a job that said nothing."""
    logs = sorted((plan.results / ".snakemake" / "slurm_logs" / f"rule_{rule}").glob("*.log"))
    return f"see {_shown(plan, logs[-1])}" if logs else f"it left no log: do the nodes see {plan.results}?"


class Progress:
    """Tells events as lines, and what runs when there was nothing to tell for a while."""

    def __init__(self, plan: Plan, home: Path, say: Callable[[str], None]):
        self.plan, self.home, self.say = plan, home, say
        self.names = {job.rule: job.name for job in plan.jobs}
        self.read: dict[str, int] = {}
        self.number: dict[str, int] = {}
        self.running: dict[str, float] = {}
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.began = self.last = time.monotonic()
        self.total = 0

    def look(self) -> None:
        self.total = self.total or self._count()
        fresh = []
        for path in (self.home / "events").glob("*.jsonl"):
            lines = path.read_text("utf-8").splitlines(keepends=True)
            whole = [line for line in lines[self.read.get(path.stem, 0) :] if line.endswith("\n")]
            self.read[path.stem] = self.read.get(path.stem, 0) + len(whole)
            fresh += [(self.names[path.stem], json.loads(line)) for line in whole]
        for name, event in sorted(fresh, key=lambda entry: entry[1].get("at", float("inf"))):
            self.tell(name, event)
        if self.running and time.monotonic() - self.last > HEARTBEAT:
            now = ", ".join(f"{name} ({_clock(time.monotonic() - start)})" for name, start in self.running.items())
            self._say(
                f"  … {len(self.done)} of {self.total} done, {_clock(time.monotonic() - self.began)}; running: {now}"
            )

    def tell(self, name: str, event: dict[str, Any]) -> None:
        if event["event"] == "started":
            self.running[name] = time.monotonic()
            self.number[name] = len(self.number) + 1
            self._say(f"{self._place(name)} {name}  started")
        elif event["event"] == "said":
            self._say(f"  {name.split('/')[0]}: {event['line']}")
        elif event["event"] == "done":
            memory = f" ({event['memory']} MB)" if event["memory"] else ""
            self.end(name, f"done in {_clock(event['seconds'])}{memory}")
        else:
            self.end(name, f"FAILED after {_clock(event['seconds'])}: {event['reason']}", event["notebook"])

    def end(self, name: str, words: str, where: str = "") -> None:
        self.running.pop(name, None)
        self.number.setdefault(name, len(self.number) + 1)
        if where:
            self.failed[name] = where
        else:
            self.done.append(name)
        self._say(f"{self._place(name)} {name}  {words}")

    def _say(self, line: str) -> None:
        self.last = time.monotonic()
        self.say(line)

    def _place(self, name: str) -> str:
        width = len(str(self.total))
        return f"[{self.number[name]:>{width}}/{max(self.total, len(self.number))}]"

    def _count(self) -> int:
        """How many jobs Snakemake will run, from its first words."""
        log = (self.home / "engine.log").read_text("utf-8")
        total = re.search(r"(?m)^total\s+(\d+)", log)
        return int(total[1]) - len(re.findall(r"(?m)^all\s+1", log)) if total else 0


class _only_one:
    """A lock on the results, which an engine that outlived its parent keeps."""

    def __init__(self, home: Path):
        self.home, self.lock = home, FileLock(home / "lock", timeout=0)

    def __enter__(self) -> None:
        try:
            self.lock.acquire()
        except Timeout:
            raise ValueError(f"another run is working on {self.home.parent}; wait for its end") from None
        if (pid := _alive(self.home / "pid")) is not None:
            self.lock.release()
            raise ValueError(f"the engine of an earlier run still works (process {pid}); wait for its end, or stop it")
        if jobs := _queued(self.home / "engine.log"):
            self.lock.release()
            raise ValueError(f"SLURM still has jobs of an earlier run ({jobs}); wait for their end, or scancel them: "
                             "what they finish is kept")  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _alive(path: Path) -> int | None:
    """The process whose number is in the file, if it is a Snakemake that lives."""
    try:
        pid = int(path.read_text("utf-8"))
        return pid if "snakemake" in Path(f"/proc/{pid}/cmdline").read_text("utf-8") else None
    except (OSError, ValueError):
        return None


def _queued(log: Path) -> str:
    """The numbers of SLURM's jobs, waiting or working, of the run that wrote the log."""
    run_id = re.search(r"(?m)^SLURM run ID: (\S+)", log.read_text("utf-8")) if log.is_file() else None
    jobs = _words("squeue", "--noheader", "--format=%i", "--name", run_id[1]).split() if run_id else []
    return " ".join(jobs[:20]) + (f" and {len(jobs) - 20} more" if len(jobs) > 20 else "")


def _cards(plan: Plan) -> int:
    """Graphics cards to share among jobs that ask for one."""
    if not any(job.resources["gpu"] for job in plan.jobs):
        return 0
    import torch

    return max(1, torch.cuda.device_count())


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _shown(plan: Plan, path: Path) -> str:
    return path.relative_to(plan.root).as_posix()
