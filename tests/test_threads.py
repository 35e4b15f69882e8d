"""csrc/threads.* under ThreadSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent / "csrc"

# Each member writes its part of the numbers; after the barrier each reads all parts: without the barrier that is a
# race.
MAIN = r"""
#include <chrono>
#include <cstdio>
#include <thread>
#include "threads.h"

struct Job { edgepose::Team* team; int members; long parts[8], sums[8]; long round; };

void work(void* argument, int member) {
  Job& job = *static_cast<Job*>(argument);
  for (int phase = 0; phase < 3; phase++) {
    job.parts[member] = job.round * 10 + phase + member;
    BARRIER
    long sum = 0;
    for (int i = 0; i < job.members; i++) sum += job.parts[i];
    job.sums[member] = sum;
    BARRIER
  }
}

int main() {
  for (int members : {1, 2, 3, 8}) {
    edgepose::Team team(members);
    Job job = {&team, members, {}, {}, 0};
    for (job.round = 0; job.round < 400; job.round++) {
      team.run(work, &job);
      const long wanted = members * (job.round * 10 + 2) + members * (members - 1) / 2;
      for (int i = 0; i < members; i++)
        if (job.sums[i] != wanted)
          return std::printf("member %d of %d: %ld, not %ld\n", i, members, job.sums[i], wanted), 1;
      // Long enough for the members to fall asleep, or to be about to.
      if (job.round % 40 == 0) std::this_thread::sleep_for(std::chrono::microseconds(job.round % 80 ? 60 : 3000));
    }
  }
  for (int i = 0; i < 50; i++) edgepose::Team(3);  // started and stopped without any work
  std::puts("done");
}
"""

HELLO = "#include <thread>\nint main() { int n = 0; std::thread([&] { n = 1; }).join(); return n - 1; }\n"


def compiled(folder, name, text, *sources):
    """The program of `text` and sources under ThreadSanitizer; None if it does not compile."""
    (folder / f"{name}.cpp").write_text(text)
    command = ["g++", "-std=c++17", "-O1", "-g1", "-pthread", "-fsanitize=thread", f"-I{CSRC}",
               folder / f"{name}.cpp", *sources, "-o", folder / name]
    return folder / name if subprocess.run(command, capture_output=True, timeout=120).returncode == 0 else None


def ran(program):
    return subprocess.run([program], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder to compile in, where ThreadSanitizer works."""
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("threads")
    hello = compiled(folder, "hello", HELLO)
    if hello is None:
        pytest.skip("needs g++'s ThreadSanitizer (libtsan)")
    if ran(hello).returncode:
        pytest.skip(f"ThreadSanitizer does not start on this kernel: {ran(hello).stderr.strip()[:200]}")
    return folder


@pytest.mark.slow
def test_a_team_runs_its_work_without_a_race(folder):
    process = ran(compiled(folder, "team", MAIN.replace("BARRIER", "job.team->barrier();"), CSRC / "threads.cpp"))
    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_work_without_its_barrier_would_be_reported_as_a_race(folder):
    process = ran(compiled(folder, "race", MAIN.replace("BARRIER", ""), CSRC / "threads.cpp"))
    assert process.returncode != 0 and "WARNING: ThreadSanitizer: data race" in process.stderr
