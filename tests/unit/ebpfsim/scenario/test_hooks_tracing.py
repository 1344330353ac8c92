"""Hooks at functions and tracepoints in scenarios: targets, cookies, mistakes with hints."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import EbpfSimError, ScenarioError
from ebpfsim.scenario.hooks_tracing import TRACING_HOOKS

if TYPE_CHECKING:
    from conftest import Play

OBJECT = Path(__file__).resolve().parents[3] / "data" / "trampolines" / "kernel.bpf.o"
SCENARIO = """\
hosts: {{h: {{}}}}
objects: {{p: {{host: h, file: kernel.bpf.o}}}}
attach: [{attach}]
"""


@pytest.fixture
def attach(play: "Play", tmp_path: Path):
    shutil.copy(OBJECT, tmp_path)

    def attach(text: str):
        running, _ = play(SCENARIO.format(attach=text), tmp_path)
        return running

    return attach


BLOCKS = [
    ("fentry", "fentry", "bpf_fentry_test1"),
    ("fexit", "fexit", "bpf_fentry_test1"),
    ("kprobe", "kprobe", "bpf_fentry_test1"),
    ("kretprobe", "kretprobe", "bpf_fentry_test1"),
    ("multi", "kprobe_multi", "bpf_fentry_test*"),
    ("raw_tp", "raw_tp", "bpf_trigger_tp"),
    ("tp_btf", "tp_btf", "bpf_trigger_tp"),
    ("lsm", "lsm", "file_open"),
]


@pytest.mark.parametrize(("program", "hook", "target"), BLOCKS)
def test_each_hook_runs_its_program(attach, program: str, hook: str, target: str) -> None:
    running = attach(f"{{id: mine, program: p/{program}, hook: {hook}, target: '{target}'}}")
    kernel = running.sim.hosts["h"].kernel
    call, cpu = kernel.functions, kernel.cpus[0]
    call.bpf_fentry_test1(cpu, 1)
    call.bpf_modify_return_test_tp(cpu, 1)
    call.security_file_open(cpu, 0)
    assert running.attachments["mine"].runs == 1
    assert [(run.link, run.prog) for run in running.sim.recorder.runs] == [("mine", program)]


ELSEWHERE = {"fmod_ret", "freplace", "tracepoint", "perf_event", "uprobe", "uretprobe", "uprobe_multi", "usdt"}


def test_every_row_is_tried() -> None:
    assert {hook for _, hook, _ in BLOCKS} | ELSEWHERE == set(TRACING_HOOKS)


def test_records_of_tracepoints(play: "Play", tmp_path: Path) -> None:
    shutil.copy(OBJECT.with_name("tracepoints.bpf.o"), tmp_path / "kernel.bpf.o")
    block = "{{id: mine, program: p/by_tp, hook: tracepoint, target: '{}', cookie: 3}}"
    running, _ = play(SCENARIO.format(attach=block.format("syscalls:sys_enter_openat")), tmp_path)
    host = running.sim.hosts["h"]
    host.syscall(host.spawn("worker"), "openat", "/none")
    assert [(run.link, run.device) for run in running.sim.recorder.runs] == [("mine", "syscalls:sys_enter_openat")]
    assert running.attachments["mine"].link.info()["cookie"] == 3
    with pytest.raises(ScenarioError, match="did you mean 'syscalls:sys_enter_openat'"):
        play(SCENARIO.format(attach=block.format("syscalls:sys_enter_opena")), tmp_path)


def test_cookies(attach) -> None:
    running = attach("{id: mine, program: p/kprobe, hook: kprobe, target: bpf_fentry_test1, cookie: 7}")
    assert running.attachments["mine"].link.info()["cookie"] == 7


WRONG = [
    ("{program: p/kprobe, hook: kprobe}", "hook 'kprobe' needs the key 'target'"),
    ("{program: p/kprobe, hook: kprob, target: x}", "unknown hook 'kprob'; did you mean 'kprobe'?"),
    ("{program: p/fentry, hook: fentry, target: x, device: lo}", "key 'device' does not belong to hook 'fentry'"),
    ("{program: p/kprobe, hook: kprobe, target: bpf_fentry_tes1}", "did you mean 'bpf_fentry_test1'?"),
    ("{program: p/fentry, hook: fentry, target: do_exit}", "was loaded for 'bpf_fentry_test1', not for 'do_exit'"),
    ("{program: p/kprobe, hook: kprobe, target: bpf_fentry_test1, cookie: x}", "cookie 'x' is no number of 64 bits"),
]


@pytest.mark.parametrize(("block", "problem"), WRONG)
def test_mistakes(attach, block: str, problem: str) -> None:
    with pytest.raises(EbpfSimError) as wrong:
        attach(block)
    assert problem in str(wrong.value)
    assert isinstance(wrong.value, ScenarioError)
    assert ".yaml:3:" in str(wrong.value)


@pytest.mark.parametrize(("keys", "runs"), [("frequency: 1000", 10), ("period: 5ms, cpu: 0", 2)])
def test_samples_of_a_clock(play: "Play", tmp_path: Path, keys: str, runs: int) -> None:
    text = f"""\
until: 10ms
hosts: {{h: {{}}}}
objects: {{p: {{host: h, type: perf_event, asm: "r0 = 0; exit"}}}}
attach: [{{id: x, program: p, hook: perf_event, event: cpu-clock, {keys}}}]
"""
    running, _ = play(text, tmp_path)
    assert running.attachments["x"].runs == runs


USER = """\
hosts: {{h: {{binaries: {{/bin/app: {{functions: [work, other], usdt: {{"p:n": ["8@%rdi"]}}}}}}}}}}
objects: {{p: {{host: h, type: kprobe, asm: "r0 = 0; exit"}}, r: {{host: h, file: bpf/requests.bpf.o}}}}
events:
  - {{at: 1us, host: h, task: {{name: app, steps: [{{call: "/bin/app:work"}}, {{usdt: "/bin/app:p:n"}}]}}}}
attach: [{attach}]
"""


@pytest.mark.parametrize(
    "attach",
    [
        "program: p, hook: uprobe, target: '/bin/app:work'",
        "program: p, hook: uretprobe, target: '/bin/app:work+0'",
        "program: p, hook: uprobe, target: '/bin/app:work', cookie: 5",
        "program: r/refuse, hook: usdt, target: '/bin/app:p:n'",
    ],
)
def test_functions_of_user_space(play: "Play", tmp_path: Path, attach: str) -> None:
    running, _ = play(USER.format(attach=f"{{id: x, {attach}}}"), tmp_path)
    assert running.attachments["x"].runs == 1


@pytest.mark.parametrize(
    ("attach", "problem"),
    [
        ("hook: uprobe, target: work", "target 'work' is not PATH:FUNCTION"),
        ("hook: uprobe, target: '/bin/app:wrk'", "no function 'wrk'; did you mean 'work'"),
        ("hook: usdt, target: '/bin/app:p:n'", "is not PATH:PROVIDER:NAME"),
        ("hook: uprobe, target: '/bin/app:work', task: app", "unknown"),
    ],
)
def test_mistakes_about_user_space(play: "Play", tmp_path: Path, attach: str, problem: str) -> None:
    with pytest.raises(EbpfSimError) as wrong:
        play(USER.format(attach=f"{{id: x, program: p, {attach}}}"), tmp_path)
    assert problem in str(wrong.value) or "does not run at this time" in str(wrong.value)


def test_calls_of_functions(play: "Play", tmp_path: Path) -> None:
    shutil.copy(OBJECT, tmp_path)
    text = SCENARIO.format(attach="{id: mine, program: p/fentry, hook: fentry, target: bpf_fentry_test1}")
    call = "{at: 1us, host: h, call: {function: bpf_fentry_test1, args: {a: 41}}}"
    running, _ = play(f"{text}events: [{call}]\n", tmp_path)
    assert (running.attachments["mine"].runs, running.calls) == (1, {0: 42})


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("function: bpf_fentry_tset1", "did you mean 'bpf_fentry_test1'"),
        ("function: bpf_fentry_test1, args: {b: 1}", "has no argument 'b'"),
        ("function: bpf_fentry_test1, args: [1, 2]", "has 1 arguments, not 2"),
    ],
)
def test_calls_that_are_wrong(play: "Play", tmp_path: Path, block: str, problem: str) -> None:
    shutil.copy(OBJECT, tmp_path)
    text = SCENARIO.format(attach="")
    with pytest.raises(ScenarioError, match=problem):
        play(f"{text}events: [{{at: 1us, host: h, call: {{{block}}}}}]\n", tmp_path)


def test_where_tasks_are(play: "Play", tmp_path: Path) -> None:
    shutil.copy(OBJECT, tmp_path)
    task = "{name: t, cgroup: /jobs/one, stack: [0x401000, 0x402000], steps: [getpid]}"
    running, _ = play(f"{SCENARIO.format(attach='')}events: [{{at: 0, host: h, task: {task}}}]\n", tmp_path)
    kernel = running.sim.hosts["h"].kernel
    assert kernel.cgroups.find("/jobs/one") is not None
    started = running.tasks["t"]
    assert started.results[0].retval == started.pid
    assert started.task.user_ip == 0x401000
