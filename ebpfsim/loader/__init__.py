"""Object files as users hold them: open, change, load, read maps and variables by their C names (libbpf's job).

::

    obj = open_object("firewall.bpf.o")
    obj.rodata["debug"] = 1
    obj.load(host.bpf)
    obj.maps["blocked"]["10.0.0.66"] = 1
    obj.programs["firewall"].fd
"""

from ebpfsim.loader.kernel import KernelView
from ebpfsim.loader.maps import ObjectMap
from ebpfsim.loader.object import Object, open_object
from ebpfsim.loader.program import Program
from ebpfsim.loader.variables import Variables

__all__ = ["KernelView", "Object", "ObjectMap", "Program", "Variables", "open_object"]
