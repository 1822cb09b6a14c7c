"""Loops and branches: what leaves them, and what goes on in them."""

import numpy as np

from .network import Network, case


def doubling(net: Network, loop: object) -> None:
    """The body of a loop that doubles `out`."""
    net.add("add", "out", "more", into=loop.bodyNetwork, alpha=1.0)
    net.add("addBroadcastable", "out more", "twice", into=loop.bodyNetwork)
    net.add("copy", "twice", "out", into=loop.bodyNetwork)


@case("loop", "empty_condition")
def _(net: Network):
    # What coremltools writes for a loop that only counts.
    x = net.array(3)
    net.add("copy", "x")
    loop = net.add("loop", "", "", maxLoopIterations=3)
    loop.conditionNetwork.SetInParent()
    doubling(net, loop)
    return 8 * x + 7


@case("loop", "break", outputs=("sum",))
def _(net: Network):
    # Leaves the loop when a value is above 20, before it gets to count that iteration.
    x = net.given([1.0])
    net.add("copy", "x")
    net.builder.add_load_constant_nd("zero", "count", np.zeros(1), (1,))
    loop = net.add("loop", "", "", maxLoopIterations=100)
    doubling(net, loop)
    body = loop.bodyNetwork
    net.add("greaterThan", "out", "above", into=body, alpha=20.0)
    branch = net.add("branch", "above", "", into=body)
    branch.ifBranch.SetInParent()
    net.add("loopBreak", "", "", into=branch.ifBranch)
    net.add("add", "count", "counted", into=body, alpha=1.0)
    net.add("copy", "counted", "count", into=body)
    net.add("addBroadcastable", "out count", "sum")
    steps = 0
    while True:
        x = 2 * x + 1
        if x > 20:
            return {"sum": x + steps}
        steps += 1


@case("loop", "continue_while")
def _(net: Network):
    # Counts to 6 as long as the condition holds, and adds up the numbers above 2.
    x = net.given([0.5])
    net.add("copy", "x")
    net.builder.add_load_constant_nd("zero", "count", np.zeros(1), (1,))
    loop = net.add("loop", "", "", maxLoopIterations=0, conditionVar="goes_on")
    net.add("lessThan", "count", "goes_on", into=loop.conditionNetwork, alpha=6.0)
    body = loop.bodyNetwork
    net.add("add", "count", "next", into=body, alpha=1.0)
    net.add("copy", "next", "count", into=body)
    net.add("lessEqual", "count", "low", into=body, alpha=2.0)
    branch = net.add("branch", "low", "", into=body)
    net.add("loopContinue", "", "", into=branch.ifBranch)
    net.add("addBroadcastable", "out count", "sum", into=body)
    net.add("copy", "sum", "out", into=body)
    return x + 3 + 4 + 5 + 6
