"""`import rs_embed`, the list of models and their descriptions load numpy and the standard library only."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest


def run(code: str) -> object:
    """What `code` prints as JSON in a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


LOADED = """
    import json, sys
    import numpy
    before = set(sys.modules)
    import rs_embed
    {use}
    loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
    known = sys.stdlib_module_names | {{"rs_embed", "numpy"}}
    print(json.dumps(sorted(name for name in loaded - known if not name.startswith("_sysconfigdata"))))
"""

USES = {
    "import": "",
    "list_models": "assert rs_embed.list_models()",
    "describe_model": "for model in rs_embed.list_models(): assert rs_embed.describe_model(model)",
}


@pytest.mark.parametrize("use", USES)
def test_only_numpy_and_the_standard_library_are_loaded(use: str) -> None:
    assert run(LOADED.format(use=USES[use])) == []


def test_the_import_leaves_the_process_as_it_was() -> None:
    changed = run("""
        import json, logging, random, warnings
        import numpy as np

        def state():
            root = logging.getLogger()
            return {
                "filters": list(warnings.filters),
                "showwarning": (warnings.showwarning, warnings.formatwarning),
                "root logger": (root.level, list(root.handlers), list(root.filters), logging.root.manager.disable),
                "random": random.getstate(),
                "numpy random": (np.random.get_state()[1].tolist(), np.random.get_state()[2:]),
                "numpy errors": np.geterr(),
            }

        before = state()
        import rs_embed
        after = state()
        print(json.dumps([name for name in before if before[name] != after[name]]))
    """)
    assert changed == []
