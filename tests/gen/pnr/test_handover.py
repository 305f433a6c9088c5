from gen.pnr.handover import give_ports, prepare


def test_what_nextpnr_reads_again():
    """Places become constraints, a synchronous global set/reset stays one, ports come back."""
    def cell(kind, **parameters):
        return {"type": kind, "parameters": parameters,
                "attributes": {"NEXTPNR_BEL": "X1/Y2/B", "BEL_STRENGTH": f"{4:032b}", "LOC": "P3"}}

    module = {"settings": {}, "cells": {
        "comb": cell("TRELLIS_COMB", MODE="CCU2"), "late": cell("GSR", SYNCMODE="SYNC"),
        "now": cell("GSR", SYNCMODE="ASYNC")}}
    prepare(module)
    assert all(one["attributes"] == {"BEL": "X1/Y2/B", "LOC": "P3"}
               for one in module["cells"].values())
    assert [one["type"] for one in module["cells"].values()] == ["TRELLIS_COMB", "SGSR", "GSR"]
    placed = {"ports": {"q[1]": {"direction": "inout", "bits": [7]}},
              "netnames": {"net": {"bits": [7]}}}
    routed = {"ports": {}, "netnames": {"net": {"bits": [3]}}}
    give_ports(placed, routed)
    assert routed["ports"] == {"q[1]": {"direction": "inout", "bits": [3]}}
