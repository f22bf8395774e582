# SPDX-License-Identifier: Apache-2.0
"""udpgrm metrics."""

from __future__ import annotations

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.state.view import Viewer
from udpgrm.version import __version__


def run(arguments: Arguments) -> int:
    """Print every counter, zeroes included."""
    only = common.optional_filter(arguments)
    forms = [form for form in ("--prometheus", "--listen", "--json") if arguments.flag(form)]
    if len(forms) > 1:
        raise CommandError(f"metrics: {forms[0]} and {forms[1]} exclude each other")
    if arguments.flag("--output") and not arguments.flag("--prometheus"):
        raise CommandError("metrics: --output goes with --prometheus")
    if arguments.flag("--listen") or arguments.flag("--prometheus"):
        from udpgrm.cli import prometheus  # with its families and the daemon's health

        return (prometheus.listen if arguments.flag("--listen") else prometheus.run)(arguments)
    groups = Viewer(common.open_state(arguments)).groups(only, with_flows=False)
    if arguments.flag("--json"):
        common.print_json(
            {
                "version": __version__,
                "groups": [
                    {
                        "address": group.address,
                        "working_generations": {
                            str(app): generation for app, generation in enumerate(group.working)
                        },
                        "metrics": group.metrics,
                    }
                    for group in groups
                ],
            }
        )
        return 0
    print(f'build_info{{version="{__version__}"}} 1')
    for group in groups:
        for app, generation in enumerate(group.working):
            print(f'working_gen{{socket="{group.address}",app_idx="{app}"}} {generation}')
        for name, value in group.metrics.items():
            print(f'{name}{{socket="{group.address}"}} {value}')
    return 0
