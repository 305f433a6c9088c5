from boards import find_board
from gen.config.derive import derive
from gen.machine.traffic import program_bytes
from model import zoo


def test_qsdt_t_within_21_megabytes(plans):
    """The published network at 224x224 on the 85F: fused strips keep its traffic down."""
    config, program = derive(find_board("ulx3s"), zoo.load("qsdt_t"), plans=plans)
    assert (config.memory, config.core.rows) == ("sdram", 64)
    assert program_bytes(program) <= 21_000_000
