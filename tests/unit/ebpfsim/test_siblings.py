"""A stranger's package named like one of ours."""

import subprocess
import sys
from pathlib import Path


def test_stray_package_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "tracing.py").write_text("")
    code = "import ebpfsim\ntry:\n    ebpfsim.Simulation\nexcept ImportError as error:\n    print(error)"
    # the working folder comes first on the import path of `python -c`
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "ebpfsim needs its own package 'tracing', but the import path leads to" in done.stdout
    assert done.stderr == ""
