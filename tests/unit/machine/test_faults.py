"""The signal handlers: put in place while there is a vCPU, and not in anybody's way."""

import ctypes
import os
import subprocess
import sys

from nexus.machine import faults
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import READ, WRITE, Window

SIGNALS = (faults.SIGSEGV, faults.SIGBUS)


def handlers():
    found = []
    for number in SIGNALS:
        action = faults._Sigaction()
        faults._sigaction(number, None, action)
        found.append(action.handler)
    return found


def test_the_last_vcpu_puts_back_what_was_there():
    before = handlers()
    first, second = Window(), Window()
    vcpus = [Vcpu(first), Vcpu(second)]
    ours = faults.engine().on_signal
    assert handlers() == [ours, ours]
    vcpus[0].close()
    vcpus[0].close()
    assert handlers() == [ours, ours]
    vcpus[1].close()
    assert handlers() == before
    first.close()
    second.close()


def test_guarded_copies_outlive_the_vcpu():
    window = Window()
    window.map(0x10000, 4096, READ | WRITE)
    vcpu = Vcpu(window)
    window.w32(0x10000, 5)
    vcpu.close()
    assert window.u32(0x10000) == 5
    window.close()


def run_python(text):
    """Run a script in a process of its own, with a vCPU alive; returns (status, stderr)."""
    start = "import ctypes, faulthandler\nfrom nexus.machine.window import Window\n"
    command = [sys.executable, "-c", start + "from nexus.machine.vcpu import Vcpu\n" + text]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return result.returncode, result.stderr


def test_a_fault_of_the_host_itself_ends_the_process_as_ever():
    status, _ = run_python("vcpu = Vcpu(Window())\nctypes.string_at(8)\n")
    assert status == -faults.SIGSEGV


def test_a_fault_of_the_host_reaches_the_handler_that_was_there():
    status, error = run_python("faulthandler.enable()\nvcpu = Vcpu(Window())\nctypes.string_at(8)\n")
    assert status == -faults.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in error


def test_a_fault_outside_the_window_is_not_the_guests():
    window = Window()
    vcpu = Vcpu(window)
    area = ctypes.create_string_buffer(16)
    address = ctypes.addressof(area)
    assert faults.engine().copy(address, window.host + 0x5000, 8) == 8
    assert faults.engine().copy(address, address + 8, 8) == 0
    vcpu.close()
    window.close()
